package main

import (
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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/eventview"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/kubetest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

const (
	mediaHost = "media.example.com"
	formType  = "application/x-www-form-urlencoded"
)

// deadLetters is a database of a data plane that allows no recording of mediaHost, and a cluster with the Tenant.
type deadLetters struct {
	*storetest.DB
	t      *testing.T
	tenant string // namespace/name
}

func newDeadLetters(t *testing.T) *deadLetters {
	t.Helper()
	db := storetest.New(t)
	t.Setenv("CALY_DATABASE_URL", db.OperatorDSN)
	t.Setenv("KUBECONFIG", calytest.Kubeconfig(t))
	d := &deadLetters{DB: db, t: t, tenant: kubetest.Get(t).NewNamespace(t) + "/support"}
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
	withWatch := kubetest.Get(d.t).Client
	var tenant v1alpha1.Tenant
	if err := withWatch.Get(d.t.Context(), types.NamespacedName{Namespace: ns, Name: name}, &tenant); err != nil {
		d.t.Fatal(err)
	}
	tenant.Spec.Recordings.AllowedSourceHosts = []string{host}
	if err := withWatch.Update(d.t.Context(), &tenant); err != nil {
		d.t.Fatal(err)
	}
}

// terminal is the form of a call's end.
func terminal(sid string) string {
	return "CallSid=" + sid + "&EventType=terminal&Status=completed&RecordingUrl=" + url.QueryEscape(
		"https://"+mediaHost+"/"+sid+".mp3",
	)
}

// keep does what the data plane of an earlier version did with a verified request, and returns the event's id. An event
// with a recording that was not allowed was dead.
func (d *deadLetters) keep(delivery ingest.Delivery) int64 {
	d.t.Helper()
	delivery.Kind, delivery.Source, delivery.ReceivedAt = exotel.KindStatus, ingest.SourceWebhook, time.Now()
	tenant := &tenantconfig.Tenant{
		ID:                 d.tenant,
		TimeZone:           "Asia/Kolkata",
		AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
	}
	event := ingest.Build(tenant, recording.SourcePolicy{}, delivery)
	if event.DeadReason == "" {
		event.DeadReason = "source_refused"
		event.Recordings = nil
		event.Unread = nil
	}
	if outcome, err := d.Dataplane.Ingest(d.t.Context(), event); err != nil || outcome != store.Dead {
		d.t.Fatalf("kept as %v, %v; want a dead event", outcome, err)
	}
	return int64(d.count("coalesce(max(id), 0) FROM call_events"))
}

func body(s string) ingest.Delivery {
	return ingest.Delivery{
		ContentType: formType,
		Raw:         []byte(s),
		Fields:      exotel.Request{ContentType: formType, Body: []byte(s)},
	}
}

func (d *deadLetters) count(sql string) int {
	d.t.Helper()
	return d.Number(d.t, "SELECT "+sql)
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
	deadLetters := newDeadLetters(t)
	deadLetters.keep(body(terminal("c1")))
	deadLetters.keep(ingest.Delivery{
		ContentType: "application/json",
		Raw:         []byte("{"),
		Fields:      exotel.Request{ContentType: "application/json", Body: []byte("{")},
	})
	last := deadLetters.keep(body(terminal("c3")))
	other := store.Event{
		Tenant:   "other/tenant",
		CallSID:  "c9",
		Kind:     "status",
		Source:   "webhook",
		DedupKey: [32]byte{1},
	}
	if _, err := deadLetters.Dataplane.Ingest(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if n := deadLetters.count("count(*)::int FROM call_events"); n != 4 {
		t.Fatalf("%d events", n)
	}
	for name, tc := range map[string]struct {
		args string
		want []string
	}{
		"dead": {"", []string{"c3  source_refused", "unknown  malformed_body", "c1  source_refused"}},
		"all": {
			"--all",
			[]string{"c9", "c3  source_refused", "unknown  malformed_body", "c1  source_refused"},
		},
		"tenant":       {"--all --tenant=other/tenant", []string{"c9"}},
		"call":         {"--tenant=" + deadLetters.tenant + " --call=c1", []string{"c1  source_refused"}},
		"reason":       {"--reason=malformed_body", []string{"unknown  malformed_body"}},
		"since":        {"--since=1h", []string{"c3  source_refused", "unknown  malformed_body", "c1  source_refused"}},
		"since a time": {"--since=2099-01-31T10:00:00Z", nil},
		"until":        {"--until=1h", nil},
		"until a day":  {"--until=2099-01-31 --limit=1", []string{"c3  source_refused"}},
		"page":         {fmt.Sprintf("--limit=1 --before=%d", last), []string{"unknown  malformed_body"}},
	} {
		t.Run(name, func(t *testing.T) {
			result := execute(t, append([]string{"events", "list", "-o=json"}, strings.Fields(tc.args)...)...)
			got, before := listed(t, result)
			if diff := cmp.Diff(tc.want, got); diff != "" || result.err != nil {
				t.Errorf("%v, events (-want +got):\n%s", result.err, diff)
			}
			if strings.Contains(tc.args, "--limit") != (before > 0) {
				t.Errorf("the next page is before %d", before)
			}
		})
	}
	result := execute(t, "events", "list", "--limit=1")
	lines := strings.Split(result.out, "\n")
	if want := fmt.Sprintf("there may be more: add --before=%d\n", last); result.err != nil || result.errs != want ||
		len(lines) != 3 {
		t.Fatalf("a table: %v, %q and %q, want %q", result.err, result.out, result.errs, want)
	}
	got := [][]string{strings.Fields(lines[0]), strings.Fields(lines[1])}
	if _, err := time.Parse(time.RFC3339, got[1][1]); err != nil {
		t.Error(err)
	}
	got[1][1] = "then"
	if diff := cmp.Diff([][]string{{"ID", "RECEIVED", "TENANT", "CALL", "KIND", "REASON"},
		{fmt.Sprint(last), "then", deadLetters.tenant, "c3", "status/terminal", "source_refused"}}, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// TestPartialEvents lists, shows and applies again an event that was applied without some of its fields.
func TestPartialEvents(t *testing.T) {
	deadLetters := newDeadLetters(t)
	id := deadLetters.keep(body(terminal("c1") + "&CustomField=a;b&Direction=sideways"))
	if result := execute(t, "events", "replay", fmt.Sprint(id)); result.err != nil {
		t.Fatal(result.err)
	}
	for args, want := range map[string][]string{
		"list":                                  nil,
		"list --partial":                        {"c1"},
		"list --partial --reason=unknown_value": {"c1"},
		"list --partial --reason=too_large":     nil,
		"list --partial --tenant=other/tenant":  nil,
	} {
		got, _ := listed(t, execute(t, append([]string{"events"}, strings.Fields(args+" -o=json")...)...))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
	const why = `CustomField: malformed, Direction: unknown_value "sideways", RecordingUrl: rejected`
	for _, args := range [][]string{{"list", "--partial"}, {"show", fmt.Sprint(id)}} {
		if result := execute(
			t,
			append([]string{"events"}, args...)...); result.err != nil ||
			!strings.Contains(result.out, why) {
			t.Errorf("%v: %v, %s", args, result.err, result.out)
		}
	}
	deadLetters.allow(mediaHost)
	if result := execute(t, "events", "replay", "--partial"); result.err != nil ||
		!strings.Contains(result.out, " applied ") {
		t.Errorf("%v, %s", result.err, result.out)
	}
	if result := execute(t, "events", "list", "--partial"); strings.Contains(result.out, "rejected") ||
		!strings.Contains(result.out,
			"sideways") {
		t.Errorf("after the replay: %s", result.out)
	}
	if n := deadLetters.count("count(*)::int FROM recordings"); n != 1 {
		t.Errorf("%d recordings are queued, want 1", n)
	}
	checkFailure(t, execute(t, "events", "list", "--partial", "--all"), "give either --all or --partial")
}

func TestEventsShow(t *testing.T) {
	deadLetters := newDeadLetters(t)
	delivery := body(terminal("c1") + "&CustomField=%00&token=topsecret&note=\x1b[31mred")
	delivery.Query = "a=b&x=wss%3A%2F%2Fkey%3Atopsecret%40bot.example.com"
	id := deadLetters.keep(delivery)
	result := execute(t, "events", "show", fmt.Sprint(id))
	if result.err != nil || strings.Contains(result.out, "topsecret") || strings.Contains(result.out, "\x1b") {
		t.Errorf("%v, it prints %q", result.err, result.out)
	}
	for _, want := range []string{"dead: source_refused", "spec.recordings.allowedSourceHosts",
		"Query (not verified, not read): a=b&", "status/terminal",
		"\nCallSid=c1&", "token=redacted&", formType} {
		if !strings.Contains(result.out, want) {
			t.Errorf("%q is not in\n%s", want, result.out)
		}
	}
	result = execute(t, "events", "show", fmt.Sprint(id), "-o=json")
	var v eventview.Request
	if err := json.Unmarshal([]byte(result.out), &v); err != nil || result.err != nil {
		t.Fatal(err, result.err)
	}
	if v.ID != id || v.DeadReason != "source_refused" || v.CoversQuery || !v.CoversBody ||
		!strings.HasPrefix(v.Body, "CallSid=c1&") ||
		strings.Contains(result.out, "topsecret") {
		t.Errorf("it prints %s", result.out)
	}
	checkFailure(t, execute(t, "events", "show", fmt.Sprint(id+1)), fmt.Sprintf("there is no event %d", id+1))
}

// TestEventsReplay applies an event without its recording, then with it, and then tries again.
func TestEventsReplay(t *testing.T) {
	deadLetters := newDeadLetters(t)
	id := deadLetters.keep(body(terminal("c1")))
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
		{"tried", func() { deadLetters.allow(mediaHost) }, []string{"--dry-run"}, "c1 applied", "", 0, 0},
		{"allowed", nil, nil, "c1 applied", "", 0, 1},
		{"again", nil, nil, "c1 duplicate", "", 0, 1},
	} {
		if step.before != nil {
			step.before()
		}
		result := execute(t, append([]string{"events", "replay", "-o=json", fmt.Sprint(id)}, step.args...)...)
		got, _ := listed(t, result)
		if diff := cmp.Diff([]string{step.want}, got); diff != "" {
			t.Errorf("%s: result (-want +got):\n%s", step.name, diff)
		}
		if step.wantErr != "" {
			checkFailure(t, result, step.wantErr)
		} else if result.err != nil {
			t.Errorf("%s: %v", step.name, result.err)
		}
		dead := deadLetters.count("count(*)::int FROM call_events WHERE dead_reason IS NOT NULL")
		queued := deadLetters.count("count(*)::int FROM recordings WHERE source_url LIKE '%/c1.mp3'")
		if dead != step.wantDead || queued != step.queued {
			t.Errorf("%s: %d dead and %d queued, want %d and %d", step.name, dead, queued, step.wantDead, step.queued)
		}
	}
}

// TestEventsReplayMany replays more than one page of events. Some of them stay dead.
func TestEventsReplayMany(t *testing.T) {
	deadLetters := newDeadLetters(t)
	const good = 1050
	for n := range good {
		deadLetters.keep(body(terminal(fmt.Sprint("c", n))))
	}
	for n := range 3 {
		s := fmt.Sprint("{", n)
		deadLetters.keep(ingest.Delivery{
			ContentType: "application/json",
			Raw:         []byte(s),
			Fields:      exotel.Request{ContentType: "application/json", Body: []byte(s)},
		})
	}
	deadLetters.allow(mediaHost)
	result := execute(t, "events", "replay", "--tenant="+deadLetters.tenant, "--limit=2000", "--dry-run")
	if n := strings.Count(result.out, "would be applied"); n != good ||
		!strings.Contains(result.errs+fmt.Sprint(result.err), "3 of 1053 events are not applied") {
		t.Errorf("a dry run: %d would be applied, %v", n, result.err)
	}
	result = execute(t, "events", "replay", "--since=1h", "--limit=10", "-o=json")
	if got, before := listed(t, result); len(got) != 10 || before == 0 {
		t.Errorf("a limit of 10: %d, the next before %d", len(got), before)
	}
	result = execute(t, "events", "replay", "--all", "--limit=2000")
	checkFailure(t, result, fmt.Sprintf("3 of %d events are not applied", good+3-7))
	if dead, queued := deadLetters.count(
		"count(*)::int FROM call_events WHERE dead_reason IS NOT NULL",
	), deadLetters.count("count(*)::int FROM recordings"); dead != 3 ||
		queued != good {
		t.Errorf("%d dead and %d queued, want 3 and %d", dead, queued, good)
	}
}

// TestEventsReplayAtOnce verifies that exactly one of several concurrent replays applies each event.
func TestEventsReplayAtOnce(t *testing.T) {
	deadLetters := newDeadLetters(t)
	const events = 20
	for n := range events {
		deadLetters.keep(body(terminal(fmt.Sprint("c", n))))
	}
	deadLetters.allow(mediaHost)
	applied := make(chan int, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			result := execute(t, "events", "replay", "--all")
			if result.err != nil {
				t.Error(result.err)
			}
			applied <- strings.Count(result.out, " applied ") - strings.Count(result.out, "was applied")
		})
	}
	wg.Wait()
	close(applied)
	sum := 0
	for n := range applied {
		sum += n
	}
	if queued := deadLetters.count("count(*)::int FROM recordings"); sum != events || queued != events {
		t.Errorf("%d applied and %d queued, want %d", sum, queued, events)
	}
}

// TestEventsReplayFails verifies that a failure of one event is reported with that event. A failure that concerns all
// events ends the command.
func TestEventsReplayFails(t *testing.T) {
	deadLetters := newDeadLetters(t)
	id := deadLetters.keep(body(terminal("c1")))
	gone := store.Event{
		Tenant:     "gone/tenant",
		CallSID:    "c9",
		Kind:       "status",
		Source:     "webhook",
		DedupKey:   [32]byte{1},
		DeadReason: "stale",
	}
	foreign := store.Event{
		Tenant:     deadLetters.tenant,
		CallSID:    "c8",
		Kind:       "status",
		Source:     "backfill",
		DedupKey:   [32]byte{2},
		DeadReason: "source_refused",
		Raw:        []byte(`{"Sid":"c8","AccountSid":"other","Status":"completed"}`),
	}
	if _, err := deadLetters.Dataplane.IngestBatch(t.Context(), []store.Event{gone, foreign}); err != nil {
		t.Fatal(err)
	}
	deadLetters.allow(mediaHost)
	result := execute(t, "events", "replay", "--all")
	checkFailure(t, result, "2 of 3 events are not applied")
	for _, want := range []string{
		"failed: its Tenant does not exist any more", "failed: call c8 is of another Exotel account",
		" applied ",
	} {
		if strings.Count(result.out, want) != 1 {
			t.Errorf("%q is not once in\n%s", want, result.out)
		}
	}
	result = execute(t, "events", "replay", fmt.Sprint(id+1000))
	checkFailure(t, result, "1 of 1 events are not applied")
	if !strings.Contains(result.out, "there is no such event") {
		t.Errorf("it prints %q", result.out)
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
	result = execute(t, "events", "replay", "--all")
	checkFailure(t, result, "2 of 2 events are not applied")
	if strings.Count(result.out, "failed: its Tenant may not be read from here") != 2 {
		t.Errorf("without rights it prints\n%s", result.out)
	}
	t.Setenv(
		"KUBECONFIG",
		write(
			t,
			`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"x","cluster":{"server":"http://`+calytest.FreeAddress(
				t,
			)+`"}}],
		"contexts":[{"name":"x","context":{"cluster":"x"}}],"current-context":"x"}`,
		),
	)
	checkFailure(t, execute(t, "events", "replay", "--all"), "read the Tenant ")
	if dead := deadLetters.count("count(*)::int FROM call_events WHERE dead_reason IS NOT NULL"); dead != 2 {
		t.Errorf("%d dead, want 2", dead)
	}
}

// TestEventsUsage verifies that the commands report wrong usage with the usage status before they open the database.
// Failures of the database have another message.
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
			result := execute(t, append([]string{"events"}, strings.Fields(tc.args)...)...)
			checkFailure(t, result, tc.says)
			var exit *cli.ExitError
			if !errors.As(result.err, &exit) || exit.Code != cli.ExitUsage {
				t.Errorf("ends with %v, want status %d", result.err, cli.ExitUsage)
			}
		})
	}
	// What the chart gives to the operator's pod, these commands find there.
	for name, says := range map[string]string{
		"ALLOWED_SOURCE_CIDRS": "is not an address range",
		"ALLOW_HTTP_SOURCES":   "cannot be read as a value",
		"DATABASE_URL_FILE":    "open everything",
	} {
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

// TestEventsAsTheDataPlane verifies that the role of the data plane cannot list the events of all tenants.
func TestEventsAsTheDataPlane(t *testing.T) {
	t.Setenv("CALY_DATABASE_URL", pgtest.New(t).DataplaneDSN)
	checkFailure(t, execute(t, "events", "list"), "not a member of caly_operator")
}
