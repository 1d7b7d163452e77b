package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

const (
	mediaHost = "media.example.com"
	formType  = "application/x-www-form-urlencoded"
)

// deadLetters is a database of a data plane that allows no recording of mediaHost, and a cluster with the Tenant.
type deadLetters struct {
	t      *testing.T
	tenant string // namespace/name
	pg     *pgtest.Server
	db     *store.Dataplane
}

func newDeadLetters(t *testing.T) *deadLetters {
	t.Helper()
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	t.Setenv("CALY_DATABASE_URL", pg.OperatorDSN)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	d := &deadLetters{t: t, pg: pg, db: db, tenant: kubetest.Get(t).NewNamespace(t) + "/support"}
	d.newTenant()
	return d
}

func (d *deadLetters) newTenant() {
	d.t.Helper()
	ns, name, _ := splitTenant(d.tenant)
	if err := kubetest.Get(d.t).Client.Create(d.t.Context(), tenanttest.New(ns, name)); err != nil {
		d.t.Fatal(err)
	}
}

// allow lets the Tenant's recordings come from a host.
func (d *deadLetters) allow(host string) {
	d.t.Helper()
	ns, name, _ := splitTenant(d.tenant)
	c := kubetest.Get(d.t).Client
	var tenant v1alpha1.Tenant
	if err := c.Get(d.t.Context(), types.NamespacedName{Namespace: ns, Name: name}, &tenant); err != nil {
		d.t.Fatal(err)
	}
	tenant.Spec.Recordings.AllowedSourceHosts = []string{host}
	if err := c.Update(d.t.Context(), &tenant); err != nil {
		d.t.Fatal(err)
	}
}

// terminal is the form of a call's end.
func terminal(sid string) string {
	return "CallSid=" + sid + "&EventType=terminal&Status=completed&RecordingUrl=" + url.QueryEscape("https://"+mediaHost+"/"+sid+".mp3")
}

// keep does what the data plane of an earlier version did with a verified request, and returns the event's id. An event
// with a recording that was not allowed was dead.
func (d *deadLetters) keep(delivery ingest.Delivery) int64 {
	d.t.Helper()
	delivery.Kind, delivery.Source, delivery.ReceivedAt = exotel.KindStatus, ingest.SourceWebhook, time.Now()
	tenant := &tenantconfig.Tenant{ID: d.tenant, TimeZone: "Asia/Kolkata", AllowedSourceHosts: tenantconfig.DefaultSourceHosts}
	e := ingest.Build(tenant, recording.SourcePolicy{}, delivery)
	if e.DeadReason == "" {
		e.DeadReason, e.Recordings, e.Unread = "source_refused", nil, nil
	}
	if o, err := d.db.Ingest(d.t.Context(), e); err != nil || o != store.Dead {
		d.t.Fatalf("kept as %v, %v; want a dead event", o, err)
	}
	return int64(d.count("coalesce(max(id), 0) FROM call_events"))
}

func body(s string) ingest.Delivery {
	return ingest.Delivery{ContentType: formType, Raw: []byte(s), Fields: exotel.Request{ContentType: formType, Body: []byte(s)}}
}

func (d *deadLetters) count(sql string) (n int) {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), d.pg.AdminDSN)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(d.t.Context(), "SELECT "+sql).Scan(&n); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// listed are the calls that a command prints in JSON, with what it says of each.
func listed(t *testing.T, r result) (calls []string, before int64) {
	t.Helper()
	var out struct {
		Events []struct{ CallSID, DeadReason, Result, Reason string }
		Before int64
	}
	if err := json.Unmarshal([]byte(r.out), &out); err != nil {
		t.Fatalf("%v in %q, %v", err, r.out, r.err)
	}
	for _, e := range out.Events {
		calls = append(calls, strings.TrimSpace(fmt.Sprintln(e.CallSID, e.Result, e.Reason+e.DeadReason)))
	}
	return calls, out.Before
}

func TestEventsList(t *testing.T) {
	d := newDeadLetters(t)
	d.keep(body(terminal("c1")))
	d.keep(ingest.Delivery{ContentType: "application/json", Raw: []byte("{"), Fields: exotel.Request{ContentType: "application/json", Body: []byte("{")}})
	last := d.keep(body(terminal("c3")))
	other := store.Event{Tenant: "other/tenant", CallSID: "c9", Kind: "status", Source: "webhook", DedupKey: [32]byte{1}}
	if _, err := d.db.Ingest(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if n := d.count("count(*)::int FROM call_events"); n != 4 {
		t.Fatalf("%d events", n)
	}
	for name, tc := range map[string]struct {
		args string
		want []string
	}{
		"dead":         {"", []string{"c3  source_refused", "unknown  malformed_body", "c1  source_refused"}},
		"all":          {"--all", []string{"c9", "c3  source_refused", "unknown  malformed_body", "c1  source_refused"}},
		"tenant":       {"--all --tenant=other/tenant", []string{"c9"}},
		"call":         {"--tenant=" + d.tenant + " --call=c1", []string{"c1  source_refused"}},
		"reason":       {"--reason=malformed_body", []string{"unknown  malformed_body"}},
		"since":        {"--since=1h", []string{"c3  source_refused", "unknown  malformed_body", "c1  source_refused"}},
		"since a time": {"--since=2099-01-31T10:00:00Z", nil},
		"until":        {"--until=1h", nil},
		"until a day":  {"--until=2099-01-31 --limit=1", []string{"c3  source_refused"}},
		"page":         {fmt.Sprintf("--limit=1 --before=%d", last), []string{"unknown  malformed_body"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := execute(t, append([]string{"events", "list", "-o=json"}, strings.Fields(tc.args)...)...)
			got, before := listed(t, r)
			if diff := cmp.Diff(tc.want, got); diff != "" || r.err != nil {
				t.Errorf("%v, events (-want +got):\n%s", r.err, diff)
			}
			if strings.Contains(tc.args, "--limit") != (before > 0) {
				t.Errorf("the next page is before %d", before)
			}
		})
	}
	r := execute(t, "events", "list", "--limit=1")
	lines := strings.Split(r.out, "\n")
	if want := fmt.Sprintf("there may be more: add --before=%d\n", last); r.err != nil || r.errs != want || len(lines) != 3 {
		t.Fatalf("a table: %v, %q and %q, want %q", r.err, r.out, r.errs, want)
	}
	got := [][]string{strings.Fields(lines[0]), strings.Fields(lines[1])}
	if _, err := time.Parse(time.RFC3339, got[1][1]); err != nil {
		t.Error(err)
	}
	got[1][1] = "then"
	if diff := cmp.Diff([][]string{{"ID", "RECEIVED", "TENANT", "CALL", "KIND", "REASON"},
		{fmt.Sprint(last), "then", d.tenant, "c3", "status/terminal", "source_refused"}}, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// TestPartialEvents lists, shows and applies again an event that was applied without some of its fields.
func TestPartialEvents(t *testing.T) {
	d := newDeadLetters(t)
	id := d.keep(body(terminal("c1") + "&CustomField=a;b&Direction=sideways"))
	if r := execute(t, "events", "replay", fmt.Sprint(id)); r.err != nil {
		t.Fatal(r.err)
	}
	for args, want := range map[string][]string{
		"list": nil, "list --partial": {"c1"}, "list --partial --reason=unknown_value": {"c1"},
		"list --partial --reason=too_large":    nil,
		"list --partial --tenant=other/tenant": nil,
	} {
		got, _ := listed(t, execute(t, append([]string{"events"}, strings.Fields(args+" -o=json")...)...))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
	const why = `CustomField: malformed, Direction: unknown_value "sideways", RecordingUrl: rejected`
	for _, args := range [][]string{{"list", "--partial"}, {"show", fmt.Sprint(id)}} {
		if r := execute(t, append([]string{"events"}, args...)...); r.err != nil || !strings.Contains(r.out, why) {
			t.Errorf("%v: %v, %s", args, r.err, r.out)
		}
	}
	d.allow(mediaHost)
	if r := execute(t, "events", "replay", "--partial"); r.err != nil || !strings.Contains(r.out, " applied ") {
		t.Errorf("%v, %s", r.err, r.out)
	}
	if r := execute(t, "events", "list", "--partial"); strings.Contains(r.out, "rejected") || !strings.Contains(r.out,
		"sideways") {
		t.Errorf("after the replay: %s", r.out)
	}
	if n := d.count("count(*)::int FROM recordings"); n != 1 {
		t.Errorf("%d recordings are queued, want 1", n)
	}
	checkFailure(t, execute(t, "events", "list", "--partial", "--all"), "give either --all or --partial")
}

func TestEventsShow(t *testing.T) {
	d := newDeadLetters(t)
	delivery := body(terminal("c1") + "&CustomField=%00&token=topsecret&note=\x1b[31mred")
	delivery.Query = "a=b&x=wss%3A%2F%2Fkey%3Atopsecret%40bot.example.com"
	id := d.keep(delivery)
	r := execute(t, "events", "show", fmt.Sprint(id))
	if r.err != nil || strings.Contains(r.out, "topsecret") || strings.Contains(r.out, "\x1b") {
		t.Errorf("%v, it prints %q", r.err, r.out)
	}
	for _, want := range []string{"dead: source_refused", "spec.recordings.allowedSourceHosts", "Query (not verified, not read): a=b&", "status/terminal",
		"\nCallSid=c1&", "token=redacted&", formType} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	r = execute(t, "events", "show", fmt.Sprint(id), "-o=json")
	var v requestView
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.err != nil {
		t.Fatal(err, r.err)
	}
	if v.ID != id || v.DeadReason != "source_refused" || v.CoversQuery || !v.CoversBody || !strings.HasPrefix(v.Body, "CallSid=c1&") || strings.Contains(r.out, "topsecret") {
		t.Errorf("it prints %s", r.out)
	}
	checkFailure(t, execute(t, "events", "show", fmt.Sprint(id+1)), fmt.Sprintf("there is no event %d", id+1))
}

// TestEventsReplay applies an event without its recording, then with it, and then tries again.
func TestEventsReplay(t *testing.T) {
	d := newDeadLetters(t)
	id := d.keep(body(terminal("c1")))
	for _, step := range []struct {
		name             string
		before           func()
		args             []string
		want             string
		wantErr          string
		wantDead, queued int
	}{
		{"tried, its recording is rejected", nil, []string{"--dry-run"}, "c1 applied", "", 1, 0},
		{"its recording is rejected", nil, nil, "c1 applied", "", 0, 0},
		{"tried", func() { d.allow(mediaHost) }, []string{"--dry-run"}, "c1 applied", "", 0, 0},
		{"allowed", nil, nil, "c1 applied", "", 0, 1},
		{"again", nil, nil, "c1 duplicate", "", 0, 1},
	} {
		if step.before != nil {
			step.before()
		}
		r := execute(t, append([]string{"events", "replay", "-o=json", fmt.Sprint(id)}, step.args...)...)
		got, _ := listed(t, r)
		if diff := cmp.Diff([]string{step.want}, got); diff != "" {
			t.Errorf("%s: result (-want +got):\n%s", step.name, diff)
		}
		if step.wantErr != "" {
			checkFailure(t, r, step.wantErr)
		} else if r.err != nil {
			t.Errorf("%s: %v", step.name, r.err)
		}
		dead, queued := d.count("count(*)::int FROM call_events WHERE dead_reason IS NOT NULL"), d.count("count(*)::int FROM recordings WHERE source_url LIKE '%/c1.mp3'")
		if dead != step.wantDead || queued != step.queued {
			t.Errorf("%s: %d dead and %d queued, want %d and %d", step.name, dead, queued, step.wantDead, step.queued)
		}
	}
}

// TestEventsReplayMany goes through more than a page, part of which stays dead.
func TestEventsReplayMany(t *testing.T) {
	d := newDeadLetters(t)
	const good = 1050
	for n := range good {
		d.keep(body(terminal(fmt.Sprint("c", n))))
	}
	for n := range 3 {
		s := fmt.Sprint("{", n)
		d.keep(ingest.Delivery{ContentType: "application/json", Raw: []byte(s), Fields: exotel.Request{ContentType: "application/json", Body: []byte(s)}})
	}
	d.allow(mediaHost)
	r := execute(t, "events", "replay", "--tenant="+d.tenant, "--limit=2000", "--dry-run")
	if n := strings.Count(r.out, "would be applied"); n != good || !strings.Contains(r.errs+fmt.Sprint(r.err), "3 of 1053 events are not applied") {
		t.Errorf("a dry run: %d would be applied, %v", n, r.err)
	}
	r = execute(t, "events", "replay", "--since=1h", "--limit=10", "-o=json")
	if got, before := listed(t, r); len(got) != 10 || before == 0 {
		t.Errorf("a limit of 10: %d, the next before %d", len(got), before)
	}
	r = execute(t, "events", "replay", "--all", "--limit=2000")
	checkFailure(t, r, fmt.Sprintf("3 of %d events are not applied", good+3-7))
	if dead, queued := d.count("count(*)::int FROM call_events WHERE dead_reason IS NOT NULL"), d.count("count(*)::int FROM recordings"); dead != 3 || queued != good {
		t.Errorf("%d dead and %d queued, want 3 and %d", dead, queued, good)
	}
}

// TestEventsReplayAtOnce : of several who apply the same events, one applies each.
func TestEventsReplayAtOnce(t *testing.T) {
	d := newDeadLetters(t)
	const events = 20
	for n := range events {
		d.keep(body(terminal(fmt.Sprint("c", n))))
	}
	d.allow(mediaHost)
	applied := make(chan int, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r := execute(t, "events", "replay", "--all")
			if r.err != nil {
				t.Error(r.err)
			}
			applied <- strings.Count(r.out, " applied ") - strings.Count(r.out, "was applied")
		})
	}
	wg.Wait()
	close(applied)
	sum := 0
	for n := range applied {
		sum += n
	}
	if queued := d.count("count(*)::int FROM recordings"); sum != events || queued != events {
		t.Errorf("%d applied and %d queued, want %d", sum, queued, events)
	}
}

// TestEventsReplayFails : what is about one event is said of it, what is about all ends the command.
func TestEventsReplayFails(t *testing.T) {
	d := newDeadLetters(t)
	id := d.keep(body(terminal("c1")))
	gone := store.Event{Tenant: "gone/tenant", CallSID: "c9", Kind: "status", Source: "webhook", DedupKey: [32]byte{1}, DeadReason: "stale"}
	foreign := store.Event{Tenant: d.tenant, CallSID: "c8", Kind: "status", Source: "backfill", DedupKey: [32]byte{2}, DeadReason: "source_refused",
		Raw: []byte(`{"Sid":"c8","AccountSid":"other","Status":"completed"}`)}
	if _, err := d.db.IngestBatch(t.Context(), []store.Event{gone, foreign}); err != nil {
		t.Fatal(err)
	}
	d.allow(mediaHost)
	r := execute(t, "events", "replay", "--all")
	checkFailure(t, r, "2 of 3 events are not applied")
	for _, want := range []string{"failed: its Tenant does not exist any more", "failed: call c8 is of another Exotel account", " applied "} {
		if strings.Count(r.out, want) != 1 {
			t.Errorf("%q is not once in\n%s", want, r.out)
		}
	}
	r = execute(t, "events", "replay", fmt.Sprint(id+1000))
	checkFailure(t, r, "1 of 1 events are not applied")
	if !strings.Contains(r.out, "there is no such event") {
		t.Errorf("it prints %q", r.out)
	}
	anybody, err := clientcmd.LoadFromFile(calytest.Kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	anybody.AuthInfos["test"].Impersonate = "anybody"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*anybody, file); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	r = execute(t, "events", "replay", "--all")
	checkFailure(t, r, "2 of 2 events are not applied")
	if strings.Count(r.out, "failed: its Tenant may not be read from here") != 2 {
		t.Errorf("without rights it prints\n%s", r.out)
	}
	t.Setenv("KUBECONFIG", write(t, `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"x","cluster":{"server":"http://`+calytest.FreeAddress(t)+`"}}],
		"contexts":[{"name":"x","context":{"cluster":"x"}}],"current-context":"x"}`))
	checkFailure(t, execute(t, "events", "replay", "--all"), "read the Tenant ")
	if dead := d.count("count(*)::int FROM call_events WHERE dead_reason IS NOT NULL"); dead != 2 {
		t.Errorf("%d dead, want 2", dead)
	}
}

// TestEventsUsage : wrong use is told apart from a failure, before anything is asked for.
func TestEventsUsage(t *testing.T) {
	t.Setenv("CALY_DATABASE_URL", "")
	for name, tc := range map[string]struct{ args, says string }{
		"list, an argument":        {"list 17", `unknown command "17"`},
		"list, no tenant's id":     {"list --tenant=acme", "is not namespace/name"},
		"list, a call alone":       {"list --call=c1", "--call needs --tenant"},
		"list, since when":         {"list --since=yesterday", `--since "yesterday" is neither a duration`},
		"list, since the future":   {"list --since=-1h", `--since "-1h" is neither a duration`},
		"list, until when":         {"list --until=31.1.2026", "--until"},
		"list, no limit":           {"list --limit=0", "--limit must be between 1 and 100000"},
		"list, a great limit":      {"list --limit=100001", "--limit must be between 1 and 100000"},
		"list, before nothing":     {"list --before=-1", "--before an event's id"},
		"list, a form unknown":     {"list -o=yaml", `--output "yaml" is neither table nor json`},
		"show, nothing":            {"show", "give the id of one event"},
		"show, two":                {"show 1 2", "give the id of one event"},
		"show, no number":          {"show c1", `"c1" is not the id of an event`},
		"show, zero":               {"show 0", `"0" is not the id of an event`},
		"show, a form unknown":     {"show 1 -o=yaml", "neither table nor json"},
		"replay, nothing":          {"replay", "give either ids of events, or flags that choose"},
		"replay, dry, nothing":     {"replay --dry-run", "give either ids of events, or flags that choose"},
		"replay, both":             {"replay 1 --reason=stale", "give either ids of events, or flags that choose"},
		"replay, no number":        {"replay 1 x", `"x" is not the id of an event`},
		"replay, no tenant's id":   {"replay --tenant=acme", "is not namespace/name"},
		"replay, no address range": {"replay 1 --allowed-source-cidrs=everything", "is not an address range"},
		"replay, a form unknown":   {"replay 1 -o=yaml", "neither table nor json"},
	} {
		t.Run(name, func(t *testing.T) {
			r := execute(t, append([]string{"events"}, strings.Fields(tc.args)...)...)
			checkFailure(t, r, tc.says)
			var exit *cli.ExitError
			if !errors.As(r.err, &exit) || exit.Code != cli.ExitUsage {
				t.Errorf("ends with %v, want status %d", r.err, cli.ExitUsage)
			}
		})
	}
	// What the chart gives to the operator's pod, these commands find there.
	for name, says := range map[string]string{"ALLOWED_SOURCE_CIDRS": "is not an address range", "ALLOW_HTTP_SOURCES": "cannot be read as a value",
		"DATABASE_URL_FILE": "open everything"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CALY_"+name, "everything")
			checkFailure(t, execute(t, "events", "replay", "1"), says)
		})
	}
	for _, args := range []string{"list", "show 1", "replay 1"} {
		t.Setenv("CALY_DATABASE_URL", "")
		checkFailure(t, execute(t, append([]string{"events"}, strings.Fields(args)...)...), "no database URL")
		t.Setenv("CALY_DATABASE_URL", "postgres://u:topsecret@"+calytest.FreeAddress(t)+"/db?sslmode=disable")
		checkFailure(t, execute(t, append([]string{"events"}, strings.Fields(args)...)...), "database unavailable")
	}
}

// TestEventsAsTheDataPlane : no other component's role lists events of all tenants.
func TestEventsAsTheDataPlane(t *testing.T) {
	t.Setenv("CALY_DATABASE_URL", pgtest.New(t).DataplaneDSN)
	checkFailure(t, execute(t, "events", "list"), "not a member of caly_operator")
}

func TestRedact(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":              {"CallSid=c1&Status=completed&Legs[0][Status]=busy", "CallSid=c1&Status=completed&Legs[0][Status]=busy"},
		"form":                 {"token=topsecret&CallSid=c1", "token=redacted&CallSid=c1"},
		"form, other spelling": {"x[Auth-Token]=topsecret&api_key=topsecret", "x[Auth-Token]=redacted&api_key=redacted"},
		"form, name escaped":   {"data%5Btoken%5D=topsecret&a=b", "data%5Btoken%5D=redacted&a=b"},
		"form, value escaped":  {"password=top%26secret%20topsecret&a=b", "password=redacted&a=b"},
		"JSON":                 {`{"a":"b", "secret" : "topsecret", "n":1}`, `{"a":"b", "secret" : "redacted", "n":1}`},
		"JSON, a number":       {`{"token":123456,"n":1}`, `{"token":redacted,"n":1}`},
		"JSON in a string":     {`{"Stream":"{\"token\":\"topsecret\",\"n\":1}"}`, `{"Stream":"{\"token\":\"redacted"}`},
		"JSON, any text":       {`{"a":1,"password":"top&secret \" topsecret","n":1}`, `{"a":1,"password":"redacted","n":1}`},
		"JSON, a list":         {`{"tokens": ["topsecret"],"n":1}`, `{"tokens": ["redacted"],"n":1}`},
		"JSON, nothing":        {`{"token":null,"n":1}`, `{"token":redacted,"n":1}`},
		"form, spaces":         {"secret=top topsecret\\topsecret&a=b", "secret=redacted&a=b"},
		"multipart, any text":  {"name=\"token\"\r\n\r\ntop&\"secret\"\r\ntopsecret\r\n--x\r\nname=\"a\"\r\n\r\nb", "name=\"token\"\r\n\r\nredacted\r\n--x\r\nname=\"a\"\r\n\r\nb"},
		"multipart, cut":       {"name=\"token\"\r\n\r\ntopsecret", "name=\"token\"\r\n\r\nredacted"},
		"multipart": {"--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\ntopsecret\r\n--x\r\n",
			"--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nredacted\r\n--x\r\n"},
		"multipart, typed": {"name=\"token\"\r\nContent-Type: text/plain\r\n\r\ntopsecret\r\n--x--", "name=\"token\"\r\nContent-Type: text/plain\r\n\r\nredacted\r\n--x--"},
		"presigned URL": {`{"RecordingUrl":"https://s3.example.com/a.mp3?X-Amz-Signature=topsecret&x=y"}`,
			`{"RecordingUrl":"https://s3.example.com/a.mp3?X-Amz-Signature=redacted&x=y"}`},
		"presigned, escaped": {"RecordingUrl=https%3A%2F%2Fs3%2Fa%3FX-Amz-Security-Token%3Dtopsecret%26x%3Dy&a=b",
			"RecordingUrl=https%3A%2F%2Fs3%2Fa%3FX-Amz-Security-Token%3Dredacted&a=b"},
		"URL with credentials": {"StreamUrl=wss://key:topsecret@bot.example.com/x", "StreamUrl=wss://redacted@bot.example.com/x"},
		"an @ in a password":   {"wss://key:top@topsecret@bot.example.com/a@b", "wss://redacted@bot.example.com/a@b"},
		"escaped credentials":  {"StreamUrl=wss%3A%2F%2Fkey%3Atopsecret%40bot.example.com", "StreamUrl=wss%3A%2F%2Fredacted%40bot.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, redact(tc.in)); diff != "" {
				t.Errorf("redacted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAdvice : every reason for which an event is kept has its own, and nothing else has.
func TestAdvice(t *testing.T) {
	for _, r := range store.DeadReasons() {
		if advice[r] == "" {
			t.Errorf("nobody is told what to do about %s", r)
		}
	}
	if len(advice) != len(store.DeadReasons()) || adviceOn("a_reason_of_tomorrow") == "" {
		t.Errorf("%d pieces of advice on %d reasons", len(advice), len(store.DeadReasons()))
	}
}
