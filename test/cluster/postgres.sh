#!/usr/bin/env bash
# A throw-away PostgreSQL of its own, never the system's. It starts as the user postgres when run as root.
#
#   postgres.sh up [--dir DIR] [--listen IP] [--port N]   starts it: database caly and the roles that Caly runs as
#   postgres.sh stop [--dir DIR]                          ends it and keeps its data for the next "up"
#   postgres.sh down [--dir DIR]                          ends it and removes its data
#   postgres.sh dsn owner|operator|dataplane [--dir DIR]  prints a connection string
#
# Roles: caly_owner owns the database and may create roles (migrations run as it); caly_operator and caly_dataplane may log in.
# Default: $CALY_STATE/../postgres, 10.99.0.1 (HOSTIP), 17432. An address like 127.0.0.1 needs no root.
set -euo pipefail
# shellcheck source=test/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DIR=$BASE/postgres
LISTEN=$HOSTIP
PORT=17432 # below the range from which outgoing connections take theirs
ROLES=(owner operator dataplane)

main() {
	local command=${1:-} role=""
	[[ $# -gt 0 ]] && shift
	if [[ $command == dsn && $# -gt 0 ]]; then role=$1; shift; fi
	while (($# > 0)); do
		[[ $# -ge 2 ]] || die "$1 needs a value"
		case $1 in
		--dir) DIR=$2 ;;
		--listen) LISTEN=$2 ;;
		--port) PORT=$2 ;;
		*) die "unknown option $1" ;;
		esac
		shift 2
	done
	HOSTIP=$LISTEN
	[[ $DIR == /* ]] || DIR=$PWD/$DIR
	USER_OF=$(basename "$DIR")-pg
	case $command in
	up) lock "pg-$(cksum <<<"$DIR" | cut -d' ' -f1)"; up ;;
	stop) lock "pg-$(cksum <<<"$DIR" | cut -d' ' -f1)"; stop_postgres ;;
	down) lock "pg-$(cksum <<<"$DIR" | cut -d' ' -f1)"; down ;;
	dsn) dsn "$role" ;;
	*) sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; [[ $command == -h || $command == --help ]] || exit 2 ;;
	esac
}

up() {
	find_postgres
	if running; then
		say "PostgreSQL already runs at $(address)"
		return
	fi
	hold_host_ip "$USER_OF"
	[[ -f $DIR/ready ]] || make_database
	start_postgres
	[[ -f $DIR/ready ]] || make_roles
	say "PostgreSQL $(cat "$DIR/data/PG_VERSION") at $(address)"
}

# find_postgres sets PG to the folder of its programs.
find_postgres() {
	PG=$(postgres_bin)
	if [[ -z $PG ]]; then
		# Debian starts a cluster of its own on installing; this one must not.
		if is_root && [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
			mkdir -p /etc/postgresql-common
			echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
		fi
		install_package postgresql
		PG=$(postgres_bin)
		[[ -n $PG ]] || die "no PostgreSQL server found under /usr/lib/postgresql or on the PATH"
	fi
	if is_root; then need_command runuser util-linux; fi
}

# Version 15 is the oldest that Caly supports, so tests prefer it.
postgres_bin() {
	local d
	for d in /usr/lib/postgresql/15/bin $(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -Vr) \
		"$(pg_config --bindir 2>/dev/null || true)" "$(dirname "$(command -v postgres || echo /none/x)")"; do
		if [[ -x $d/postgres && -x $d/initdb ]]; then echo "$d"; return; fi
	done
}

as_postgres() {
	# The server refuses to run as root. It starts in / because it may not be able to read the caller's folder.
	if is_root; then (cd / && runuser -u postgres -- "$@" 9>&-); else "$@" 9>&-; fi
}

running() { [[ -f $DIR/data/postmaster.pid ]] && as_postgres "$PG/pg_ctl" -D "$DIR/data" status >/dev/null 2>&1; }

make_database() {
	rm -rf "$DIR/data"
	mkdir -p "$DIR/data" "$DIR/run"
	chmod 755 "$DIR"
	if is_root; then
		chown postgres: "$DIR/data" "$DIR/run"
		as_postgres test -x "$DIR/data" || die "the user postgres cannot enter $DIR/data: choose another --dir"
	fi
	# The superuser logs in over the Unix socket alone.
	as_postgres "$PG/initdb" -D "$DIR/data" -U postgres -A peer -E UTF8 --locale=C.UTF-8 --no-instructions >/dev/null
	as_postgres tee "$DIR/data/pg_hba.conf" >/dev/null <<-K
		local all postgres peer map=super
		local all all scram-sha-256
		host all postgres all reject
		host all all 10.0.0.0/8 scram-sha-256
		host all all 127.0.0.1/32 scram-sha-256
		host all all samenet scram-sha-256
	K
	as_postgres tee -a "$DIR/data/pg_ident.conf" >/dev/null <<-K
		super $(if is_root; then echo postgres; else id -un; fi) postgres
	K
	echo "$LISTEN $PORT" >"$DIR/address"
	(
		umask 077
		local role
		for role in "${ROLES[@]}"; do echo "$role $(random_secret)"; done >"$DIR/passwords"
	)
}

start_postgres() {
	read -r LISTEN PORT <"$DIR/address"
	if ! as_postgres "$PG/pg_ctl" -D "$DIR/data" -l "$DIR/data/server.log" -w -t 60 start >/dev/null \
		-o "-c listen_addresses=$LISTEN -c port=$PORT -c unix_socket_directories=$DIR/run -c max_connections=300 -c password_encryption=scram-sha-256"; then
		tail -n 20 "$DIR/data/server.log" >&2
		die "PostgreSQL does not start at $LISTEN:$PORT (is the port taken?)"
	fi
}

# make_roles hands the passwords over on standard input: arguments are visible to every user.
make_roles() {
	local role password
	{
		while read -r role password; do
			echo "CREATE ROLE caly_$role LOGIN NOSUPERUSER NOBYPASSRLS $([[ $role == owner ]] && echo CREATEROLE || echo NOCREATEROLE) PASSWORD '$password';"
		done <"$DIR/passwords"
		echo "CREATE DATABASE caly OWNER caly_owner;"
		echo "REVOKE ALL ON DATABASE caly FROM PUBLIC;"
		# The owner of the database may do so with its schema, as a hosted PostgreSQL would let it.
		echo '\connect caly'
		echo "ALTER SCHEMA public OWNER TO caly_owner;"
	} | as_postgres "$PG/psql" -qX -v ON_ERROR_STOP=1 -h "$DIR/run" -p "$PORT" -U postgres -d postgres
	: >"$DIR/ready"
}

address() { tr ' ' : <"$DIR/address"; }

dsn() {
	local role=${1#caly_} password
	[[ -f $DIR/ready ]] || die "no PostgreSQL here: run '${BASH_SOURCE[0]} up' first"
	password=$(awk -v r="$role" '$1 == r { print $2 }' "$DIR/passwords")
	[[ -n $password ]] || die "usage: postgres.sh dsn owner|operator|dataplane"
	echo "postgres://caly_$role:$password@$(address)/caly?sslmode=disable"
}

stop_postgres() {
	PG=$(postgres_bin)
	if running; then
		as_postgres "$PG/pg_ctl" -D "$DIR/data" -m fast -w -t 30 stop >/dev/null || as_postgres "$PG/pg_ctl" -D "$DIR/data" -m immediate stop >/dev/null
	fi
}

down() {
	if [[ ! -d $DIR ]]; then
		say "nothing is running"
	else
		[[ -f $DIR/address ]] || die "$DIR is not this script's state folder: remove it by hand"
		stop_postgres
		read -r HOSTIP _ <"$DIR/address"
		rm -rf "$DIR"
		say "down; its data is removed"
	fi
	release_host_ip "$USER_OF"
	[[ ! -d $BASE ]] || rmdir "$BASE" 2>/dev/null || true
}

main "$@"
