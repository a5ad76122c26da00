//! Prints the JSON Schema of the enriched edit; `make docs` commits it.

fn main() {
    print!("{}", schema::edit::json_schema());
}
