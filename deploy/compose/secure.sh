#!/usr/bin/env bash
# Keys and passwords for deploy/compose/secure.yml, made once; and each service's rights.
#   secure.sh secrets     makes deploy/compose/secrets/, unless it is there
#   secure.sh rights ...  grants the rights; what follows is the docker compose command of the running stack
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
services=(ingest enricher sink console wiki)

secrets() {
    [[ ! -e secrets/postgres.key ]] || return 0
    [[ ! -e secrets ]] || {
        echo "secure: deploy/compose/secrets is of an earlier version: make down, remove it, then run this again" >&2
        exit 1
    }
    command -v openssl >/dev/null || { echo "secure: this needs openssl; install it, then run this again" >&2; exit 1; }
    local folder
    folder=$(mktemp -d ./.secrets.XXXXXX)
    # Nobody else on this machine looks in; inside, containers read as users of their own.
    chmod 700 "$folder"
    (
        cd "$folder"
        umask 022
        mkdir broker
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
            -subj "/CN=wikipedia-events demo CA" -keyout ca.key -out ca.pem 2>/dev/null
        certificate broker DNS:kafka-1,DNS:kafka-2,DNS:kafka-3,DNS:localhost
        certificate postgres DNS:postgres,DNS:localhost
        openssl pkcs8 -topk8 -nocrypt -in broker.key | cat - broker.crt ca.pem > broker/broker.pem
        cp ca.pem broker/ca.pem
        rm broker.key broker.crt ca.key
        brokers
        for role in owner sink reader; do
            password > "role-$role"
            printf 'postgres://wiki_%s:%s@postgres/wikipedia' "$role" "$(<"role-$role")" > "database-$role"
        done
        password > postgres
    )
    mv "$folder" secrets
}

# A key and a certificate of our own authority, for these names.
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
        -extfile <(echo "subjectAltName=$2") 2>/dev/null
    rm "$1.csr"
}

password() { openssl rand -hex 24 | tr -d '\n'; }

# Every listener knows every principal; each client gets a file of its own.
brokers() {
    local module=org.apache.kafka.common.security.plain.PlainLoginModule users="" own admin name secret listener
    own=$(password)
    admin=$(password)
    for name in "${services[@]}"; do
        secret=$(password)
        users+=" user_$name=\"$secret\""
        printf '%s\n' security.protocol=SASL_SSL sasl.mechanism=PLAIN "sasl.username=$name" "sasl.password=$secret" \
            ssl.ca.location=/run/secrets/ca > "kafka-$name"
    done
    for listener in internal host controller; do
        echo "listener.name.$listener.plain.sasl.jaas.config=$module required username=\"broker\" password=\"$own\"" \
            "user_broker=\"$own\" user_admin=\"$admin\"$users;"
    done > broker/server.properties
    printf '%s\n' security.protocol=SASL_SSL sasl.mechanism=PLAIN \
        "sasl.jaas.config=$module required username=\"admin\" password=\"$admin\";" \
        ssl.truststore.type=PEM ssl.truststore.location=/mnt/shared/config/ca.pem > broker/admin.properties
}

# The least that each service needs: docs/own-cluster.md has the same as a table.
rights() {
    local raw=wikipedia-raw events=wikipedia-events
    {
        echo "ingest Create,Describe,DescribeConfigs,Read,Write --topic $raw --topic wikipedia-gaps --topic wikipedia-ingest --topic dlq.$raw"
        echo "ingest Create,Describe,DescribeConfigs --topic $events --topic dlq.$events"
        echo "ingest Create,Describe,DescribeConfigs,Write --topic wikipedia-control"
        echo "ingest Read --group wiki-ingest"
        echo "ingest Describe,Write --transactional-id wiki-ingest --resource-pattern-type prefixed"
        echo "enricher Describe,Read --topic $raw"
        echo "enricher Describe,Read,Write --topic $events --topic dlq.$raw"
        echo "enricher DescribeConfigs --topic $events"
        echo "enricher Read --group wiki-enricher"
        echo "enricher Describe,Write --transactional-id wiki-enricher --resource-pattern-type prefixed"
        echo "sink Describe,Read --topic $events --topic $raw"
        echo "sink Describe,Read,Write --topic dlq.$events"
        echo "sink Describe,Write --topic wikipedia-control"
        echo "sink Read --group wiki-sink"
        echo "sink Describe,Write --transactional-id wiki-sink --resource-pattern-type prefixed"
        echo "console Describe,Read --topic $raw --topic $events --topic dlq.$raw --topic dlq.$events --topic wikipedia-control"
        echo "console Describe --group wiki-sink --group wiki-enricher"
        echo "wiki Describe --group wikipedia- --resource-pattern-type prefixed"
        echo "wiki Describe,Read --topic $raw --topic $events --topic dlq.$raw --topic dlq.$events"
        echo "wiki Describe,Read,Write --topic wikipedia-gaps"
    } | while read -r principal operations resources; do
        # One call for each line: the tool starts a JVM each time.
        echo "/opt/kafka/bin/kafka-acls.sh --bootstrap-server kafka-1:9092 --command-config /mnt/shared/config/admin.properties" \
            "--add --force --allow-principal User:$principal ${operations//,/ --operation } $resources"
    done | sed -E 's/(User:[a-z]+) /\1 --operation /' \
        | "$@" exec -T kafka-1 bash -c 'set -e; while read -r line; do $line </dev/null >/dev/null; done'
}

case ${1:-} in
    secrets) secrets ;;
    rights) shift; cd ../..; rights "$@" ;;
    *) echo "usage: secure.sh secrets | rights COMPOSE-COMMAND…" >&2; exit 2 ;;
esac
