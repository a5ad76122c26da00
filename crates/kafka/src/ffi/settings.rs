//! The names of librdkafka's settings, as it lists them itself.

use std::ffi::c_char;
use std::ptr;

use rdkafka::bindings as rdsys;

/// Every setting's name; empty where the system gives no memory for the list.
#[must_use]
pub fn setting_names() -> Vec<String> {
    let (mut start, mut length) = (ptr::null_mut::<c_char>(), 0_usize);
    // SAFETY: `open_memstream` gives a stream into memory of its own and tells start and length when it is closed;
    // librdkafka only prints into it. The memory is ours after that: it is copied, then freed once.
    let list = unsafe {
        let stream = libc::open_memstream(&raw mut start, &raw mut length);
        if stream.is_null() {
            return Vec::new();
        }
        rdsys::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
        let list = std::slice::from_raw_parts(start.cast::<u8>(), length).to_vec();
        libc::free(start.cast());
        list
    };
    // A line is "name | whom it concerns | …"; headings and rulers have no name in front.
    let list = String::from_utf8_lossy(&list).into_owned();
    let names = list.lines().filter_map(|line| Some(line.split_once('|')?.0.trim()));
    let is_name = |name: &&str| name.contains(|c: char| c.is_ascii_lowercase()) && !name.contains(' ');
    names.filter(is_name).map(str::to_owned).collect()
}
