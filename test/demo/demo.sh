#!/usr/bin/env bash
# The main job end to end on this machine: a real cluster, PostgreSQL, an S3 server, the chart, two Tenants, 40 calls with recordings,
# and 20 live calls to an agent.
#
# Ends with the line "demo: 40 of 40 recordings verified, 20 of 20 live calls echoed sample by sample" and status 0; anything else is a
# failure, with its reason.
# It may be run again: it then builds nothing and begins with fresh Tenants. `make demo-down` removes everything.
set -euo pipefail
# shellcheck source=test/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

CALLS=20 # for each Tenant
STREAMS=20 # live calls, of one Tenant
SOURCE_PORT=17090
AGENT_PORT=17091
HELPERS=() # processes that end with this script

# namespace tenant account bucket secret-of-bucket
TENANTS=(
	"acme support acme1 acme-recordings acme-wasabi"
	"globex sales globex-sales globex-sales-recordings globex-s3"
)

main() {
	cd "$ROOT"
	require_rights demo
	trap finish EXIT
	trap "exit 143" TERM INT # which ends what this started
	build_tools
	build_image
	start_servers
	install_chart
	start_prometheus --faster 1
	start_simulator
	start_agent
	make_tenants
	place_calls
	watch_progress
	verify
	live_calls
	sign_in
	what_next
	echo "demo: $((CALLS * 2)) of $((CALLS * 2)) recordings verified, $STREAMS of $STREAMS live calls echoed sample by sample"
}

# finish ends what this script started and says where it stopped.
finish() {
	local status=$? pid
	for pid in "${HELPERS[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	if [[ $status != 0 ]]; then
		diagnose >&2 || true
		echo "demo: failed while $STEP; what is up stays up for a look, 'make demo-down' removes it" >&2
	fi
	exit "$status"
}

start_simulator() {
	step "starting a simulated Exotel at http://$HOSTIP:$SOURCE_PORT"
	printf 'demo-%s' "$(random 8)" >"$DEMO/api-key"
	random 16 >"$DEMO/api-token"
	bin/caly simulate server --listen "$HOSTIP:$SOURCE_PORT" --api-key-file "$DEMO/api-key" --api-token-file "$DEMO/api-token" >"$DEMO/simulator.log" 2>&1 &
	HELPERS+=($!)
	answers $! "$SOURCE_PORT" || die "the simulator does not answer: $(tail -n 3 "$DEMO/simulator.log")"
}

start_agent() {
	step "starting an agent that echoes at ws://$HOSTIP:$AGENT_PORT, in the place of a tenant's own"
	bin/caly agent echo --listen "$HOSTIP:$AGENT_PORT" >"$DEMO/agent.log" 2>&1 &
	HELPERS+=($!)
	answers $! "$AGENT_PORT" || die "the agent does not answer: $(tail -n 3 "$DEMO/agent.log")"
}

# answers PID PORT: waits until the process listens.
answers() {
	local _
	for _ in $(seq 50); do
		(exec 3<>"/dev/tcp/$HOSTIP/$2") 2>/dev/null && return
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	return 1
}

make_tenants() {
	step "making buckets, Secrets and two Tenants from config/samples" "a few seconds"
	local ns name account bucket bucket_secret
	# Those of an earlier run go first, with their rows and objects: the overlay asks for deletionPolicy Delete.
	while read -r ns name account bucket bucket_secret; do
		if kubectl -n "$ns" get "tenant/$name" >/dev/null 2>&1; then
			kubectl -n "$ns" delete callrecordings --all --timeout=60s >/dev/null
			kubectl -n "$ns" delete "tenant/$name" --timeout=90s >/dev/null || die "the Tenant $ns/$name of the last run does not go away"
		fi
		namespace "$ns"
		bucket "$bucket"
		random 32 >"$DEMO/webhook-$ns"
		random 32 >"$DEMO/token-$ns"
		random 32 >"$DEMO/audio-$ns"
		secret "$ns" "$ns-exotel" "apiKey=$DEMO/api-key" "apiToken=$DEMO/api-token"
		secret "$ns" "$ns-webhook" "current=$DEMO/webhook-$ns"
		secret "$ns" "$ns-webhook-token" "current=$DEMO/token-$ns" # one of the two Tenants names it
		secret "$ns" "$ns-audio" "current=$DEMO/audio-$ns"             # and the other this one
		secret "$ns" "$bucket_secret" "accessKeyID=$DEMO/access-key" "secretAccessKey=$DEMO/secret-key"
		kubectl -n "$ns" label --overwrite secret --all voice.caly.dev/use=tenant >/dev/null
	done < <(printf '%s\n' "${TENANTS[@]}")
	# The overlay is written for the address that this machine has for pods; in kind it is another one.
	kubectl kustomize config/demo | sed "s/10\.99\.0\.1/$HOSTIP/g" | kubectl apply -f - >/dev/null
	kubectl wait --for=condition=Ready tenants --all -A --timeout=90s >/dev/null || die "not every Tenant is Ready: $(kubectl get tenants -A -o wide)"
	kubectl get tenants -A
}

# bucket NAME makes it, through the S3 API. The credentials go through a pipe, not through arguments.
bucket() {
	local status
	status=$(printf 'user = "%s:%s"\n' "$CALY_S3_ACCESS_KEY" "$CALY_S3_SECRET_KEY" |
		curl --silent --show-error --max-time 10 --config - --aws-sigv4 "aws:amz:us-east-1:s3" --request PUT \
			--header "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" \
			--output "$DEMO/bucket.log" --write-out '%{http_code}' "$CALY_S3_ENDPOINT/$1")
	[[ $status == 200 || $status == 409 ]] || die "the bucket $1 cannot be made: HTTP $status $(cat "$DEMO/bucket.log")"
}

place_calls() {
	step "placing $CALLS calls for each Tenant, through the data plane at http://$NODE:$NODE_PORT"
	local ns name account rest pids=() pid
	while read -r ns name account rest; do
		bin/caly simulate call --calls "$CALLS" --account-sid "$account" --size 65536 \
			--webhook-url "http://$NODE:$NODE_PORT/webhooks/exotel/$ns/$name/status" --secret-file "$DEMO/webhook-$ns" \
			--recordings-base-url "http://$HOSTIP:$SOURCE_PORT" --output "$DEMO/ledger-$ns" &
		pids+=($!)
	done < <(printf '%s\n' "${TENANTS[@]}")
	for pid in "${pids[@]}"; do wait "$pid" || die "not every webhook was accepted"; done
}

# phases prints how many CallRecordings are in each phase, as "20 Uploaded, 3 Pending".
phases() {
	kubectl get callrecordings -A --no-headers -o 'custom-columns=P:.status.phase' 2>/dev/null | sed 's/<none>/New/' | sort | uniq -c |
		awk '{ printf "%s%d %s", (NR > 1 ? ", " : ""), $1, $2 }'
}

watch_progress() {
	step "uploading: kubectl get callrecordings -A"
	local deadline=$((SECONDS + 180)) now last="" shown=0
	while ((SECONDS < deadline)); do
		now=$(phases)
		if [[ $now != "$last" ]]; then
			printf 'demo: [%3d s]   %s\n' "$SECONDS" "${now:-none yet}"
			last=$now
		fi
		[[ $now == "$((CALLS * 2)) Uploaded" ]] && break
		[[ $now != *Failed* ]] || die "a recording failed: $(kubectl get callrecordings -A -o wide | sed -n "/Failed/p")"
		if [[ $shown == 0 && $now == *Uploaded* ]]; then
			shown=1
			kubectl get callrecordings -A | sed -n 1,8p
		fi
		sleep 0.5
	done
	[[ $now == "$((CALLS * 2)) Uploaded" ]] || die "not uploaded within 3 minutes: ${now:-no CallRecording was made}"
	kubectl get callrecordings -A | sed -n 1,8p
	echo "  ... $((CALLS * 2)) in all"
}

verify() {
	step "comparing each object with its source, byte for byte"
	local ns name account bucket rest
	while read -r ns name account bucket rest; do
		bin/caly simulate verify --tenant "$ns/$name" --ledger "$DEMO/ledger-$ns" --endpoint "$CALY_S3_ENDPOINT" --bucket "$bucket" \
			--access-key-file "$DEMO/access-key" --secret-key-file "$DEMO/secret-key" >"$DEMO/verify-$ns" || die "$ns/$name: $(cat "$DEMO/verify-$ns")"
		printf 'demo: [%3d s]   %s/%s: %s\n' "$SECONDS" "$ns" "$name" "$(tail -n 1 "$DEMO/verify-$ns")"
		grep -qx "$CALLS of $CALLS recordings verified" "$DEMO/verify-$ns" || die "$ns/$name: $(cat "$DEMO/verify-$ns")"
	done < <(printf '%s\n' "${TENANTS[@]}")
}

# live_calls streams audio as Exotel does: to the data plane's Service, on to the agent, and back. Every sample is compared.
live_calls() {
	step "streaming $STREAMS live calls to acme/support's agent, through ws://$NODE:$NODE_PORT/audio/exotel/acme/support" "6 s of audio"
	bin/caly simulate stream --tenant acme/support --server "ws://$NODE:$NODE_PORT" --secret-file "$DEMO/audio-acme" \
		--calls "$STREAMS" --duration 6s --expect-echo --linger 10s >"$DEMO/streams" 2>"$DEMO/streams.log" &
	local pid=$! _ pods=""
	HELPERS+=("$pid")
	for _ in $(seq 20); do
		pods=$(kubectl -n caly-system exec deploy/caly-operator -- /caly sessions list --tenant acme/support -o json | grep -oE '"pod": ?"[^"]*"' | cut -d'"' -f4 || true)
		[[ $(wc -l <<<"$pods") == "$STREAMS" ]] && break
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	printf 'demo: [%3d s]   caly sessions list: %s\n' "$SECONDS" "$(sort <<<"$pods" | uniq -c | awk '{ printf "%s%d in %s", (NR > 1 ? ", " : ""), $1, $2 }')"
	wait "$pid" || die "not every live call came back whole: $(tail -n 1 "$DEMO/streams") $(tail -n 3 "$DEMO/streams.log")"
	printf 'demo: [%3d s]   %s\n' "$SECONDS" "$(tail -n 1 "$DEMO/streams")"
	grep -q "^$STREAMS calls, 0 failed, 0 ended early, 0 incomplete" "$DEMO/streams" || die "not every live call came back whole: $(tail -n 1 "$DEMO/streams")"
}

# sign_in makes the first admin of a tenant, as the platform does, and fetches a recording through the tenant API.
sign_in() {
	step "making an admin of acme/support, signing in, and fetching a recording through the tenant API"
	local base="http://$NODE:$NODE_PORT/t/acme/support/api" token id url _
	random 16 >"$DEMO/admin-password"
	kubectl -n caly-system exec -i deploy/caly-operator -- /caly user create --tenant acme/support --email admin@acme.example --role admin \
		--password-stdin <"$DEMO/admin-password"
	printf '{"email":"admin@acme.example","password":"%s"}' "$(cat "$DEMO/admin-password")" >"$DEMO/login"
	for _ in $(seq 20); do # until each pod has heard of the Tenant's accounts
		token=$(api "$base/auth/login" --header 'Content-Type: application/json' --data "@$DEMO/login" | member accessToken)
		[[ -n $token ]] && break
		sleep 0.5
	done
	[[ -n $token ]] || die "nobody can sign in: $(cat "$DEMO/answer")"
	printf 'header = "Authorization: Bearer %s"\n' "$token" >"$DEMO/bearer"
	id=$(api "$base/recordings?state=uploaded&limit=1" --config "$DEMO/bearer" | member id)
	url=$(api "$base/recordings/$id/download" --config "$DEMO/bearer" | member url)
	[[ -n $url ]] || die "there is no link to the recording $id: $(cat "$DEMO/answer")"
	curl --silent --show-error --fail --max-time 10 --output "$DEMO/recording.mp3" "$url" || die "the link does not lead to the recording $id"
	grep -q "$(sha256sum "$DEMO/recording.mp3" | cut -d' ' -f1)" "$DEMO/ledger-acme" || die "the recording $id is not one that was sent"
	printf 'demo: [%3d s]   acme/support: recording %s, %d bytes, as it was sent\n' "$SECONDS" "$id" "$(stat -c %s "$DEMO/recording.mp3")"
}

# api URL [curl options]: the answer, also kept for messages. Secrets are in files, since arguments are visible to every user.
api() {
	curl --silent --show-error --max-time 10 "$@" >"$DEMO/answer" || true
	cat "$DEMO/answer"
}

# member NAME: the first such member of the JSON on standard input.
member() { grep -oE "\"$1\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4 | sed 's/\\u0026/\&/g' || true; }

what_next() {
	local prometheus="(none: this machine does not reach the pods)"
	[[ -z $PROMETHEUS ]] || prometheus="$PROMETHEUS/graph?g0.expr=sum+by+(tenant)+(caly_tenant_calls)"
	cat <<-K

		Look around ($SECONDS s in all):
		  export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH
		  kubectl get caly -A                                  # Tenants and CallRecordings
		  kubectl -n acme describe tenant support              # conditions, webhook addresses, events
		  kubectl explain tenant.spec.recordings
		  kubectl -n caly-uploads get jobs,pods                   # the upload Jobs, while there is work
		  bin/caly agent echo --listen $HOSTIP:$AGENT_PORT & bin/caly simulate stream --tenant acme/support   # another live call
		  $prometheus   # Prometheus: another query is ALERTS
		  http://$NODE:$NODE_PORT/docs                         # the tenant API; admin@acme.example has its password in $DEMO/admin-password
		  docs/tutorial.md does this by hand; make demo-down removes everything

	K
}

main "$@"
