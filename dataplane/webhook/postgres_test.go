package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/dataplane/webhook"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// realStore is PostgreSQL with a look at it as the superuser.
func realStore(t *testing.T) (*pgtest.Server, *store.Dataplane, func(sql string) string) {
	t.Helper()
	pg := pgtest.New(t)
	db, err := store.OpenDataplane(t.Context(), pg.DataplaneDSN, store.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return pg, db, func(sql string) (text string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		if err := conn.QueryRow(t.Context(), sql).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// gathering lets the first transaction wait until others stand behind it, and notes how many committed events of several tenants.
type gathering struct {
	webhook.Ingester
	first sync.Once
	wait  func()
	mu    sync.Mutex
	mixed int
}

func (g *gathering) IngestBatch(ctx context.Context, events []store.Event) ([]store.Outcome, error) {
	g.first.Do(g.wait)
	outcomes, err := g.Ingester.IngestBatch(ctx, events)
	if err == nil && slices.ContainsFunc(events, func(e store.Event) bool { return e.Tenant != events[0].Tenant }) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.mixed++
	}
	return outcomes, err
}

// TestTenantsShareATransaction verifies that events of two tenants share a batch, each under its own row-level
// security. An event that PostgreSQL rejects does not affect the others.
func TestTenantsShareATransaction(t *testing.T) {
	_, db, look := realStore(t)
	registry := prometheus.NewRegistry()
	g := &gathering{Ingester: db}
	handler := handlerWith(t, webhook.Options{Store: g, Workers: 1, Metrics: registry})
	g.wait = func() {
		eventually.Within(10*time.Second).Holds(t, "nine webhooks are in work", func() bool {
			return inFlight(t, registry) >= 9
		})
	}
	send := func(path, key, body string) {
		if recorder := post(handler, path, sign(key, body), body); recorder.Code != http.StatusOK {
			t.Errorf("%s %s: answered %d %s", path, body, recorder.Code, recorder.Body)
		}
	}
	var wg sync.WaitGroup
	for i := range 4 {
		body := fmt.Sprintf("CallSid=c%d&Status=completed", i)
		wg.Go(func() { send(statusPath, signingSecret, body) })
		wg.Go(func() { send("/webhooks/exotel/globex/sales/status", "a signing secret of globex", body) })
	}
	wg.Go(func() {
		const poison = "CallSid=poison&RecordingUrl=https://recordings.exotel.com/%FF.mp3"
		send(statusPath, signingSecret, poison)
	})
	wg.Wait()
	if g.mixed == 0 {
		t.Error("no transaction was of two tenants")
	}
	got := look(`SELECT string_agg(tenant || ' ' || call_sid || ' ' || coalesce(dead_reason, 'applied'), E'\n'
			ORDER BY tenant, call_sid) FROM call_events`)
	want := strings.Join(
		[]string{
			"acme/support c0 applied",
			"acme/support c1 applied",
			"acme/support c2 applied",
			"acme/support c3 applied",
			"acme/support poison applied",
			"globex/sales c0 applied",
			"globex/sales c1 applied",
			"globex/sales c2 applied",
			"globex/sales c3 applied",
		},
		"\n",
	)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	if n := look(`SELECT count(*)::text FROM calls WHERE state = 4`); n != "8" {
		t.Errorf("%s calls are completed, want 8", n)
	}
}

func inFlight(t *testing.T, registry *prometheus.Registry) float64 {
	return metricOf(t, registry, "caly_webhook_in_flight")
}

// metricOf returns the value of a counter or gauge.
func metricOf(t *testing.T, registry *prometheus.Registry, name string) float64 {
	families, err := registry.Gather()
	if err != nil {
		t.Error(err)
		return 0
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// TestChangedDelivery checks that a delivery with another field is an event of its own, and that an equal one is not.
func TestChangedDelivery(t *testing.T) {
	_, db, look := realStore(t)
	registry := prometheus.NewRegistry()
	handler := handlerWith(t, webhook.Options{Store: db, Metrics: registry})
	const first = "CallSid=c1&Status=completed"
	for _, body := range []string{first, first, first + "&ConversationDuration=40"} {
		if recorder := post(handler, statusPath, sign(signingSecret, body), body); recorder.Code != http.StatusOK {
			t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
		}
	}
	got := map[string]float64{}
	for _, outcome := range []string{"applied", "duplicate", "replayed"} {
		got[outcome] = counted(t, registry, "caly_webhook_events_total", outcome)
	}
	if diff := cmp.Diff(map[string]float64{"applied": 2, "duplicate": 1, "replayed": 0}, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	got40 := look(`SELECT conversation_seconds || ' ' || (SELECT count(*) FROM call_events) FROM calls`)
	if got40 != "40 2" {
		t.Errorf("talk time and events: %s, want 40 2", got40)
	}
}

// TestStreamIsKept verifies that a Passthru's stream is stored with its call, and that both recordings are queued.
func TestStreamIsKept(t *testing.T) {
	_, db, look := realStore(t)
	handler := handlerWith(t, webhook.Options{Store: db})
	const body = `CallSid=c1&RecordingUrl=https://recordings.exotel.com/c1.mp3&Stream={"StreamSID":"s1",` +
		`"Status":"completed","Duration":"28",` +
		`"DisconnectedBy":"bot","RecordingUrl":"https://recordings.exotel.com/s1.mp3"}`
	if recorder := post(
		handler, "/webhooks/exotel/acme/support/passthru", sign(signingSecret, body), body,
	); recorder.Code != http.StatusOK {
		t.Fatalf("answered %d %s", recorder.Code, recorder.Body)
	}
	if got := look(
		`SELECT concat_ws(' ', call_sid, stream_sid, status, duration_seconds, disconnected_by, recording_url)
			FROM call_streams`,
	); got !=
		"c1 s1 completed 28 bot https://recordings.exotel.com/s1.mp3" {
		t.Errorf("stream: %s", got)
	}
	if got := look(
		`SELECT string_agg(source_url, ' ' ORDER BY source_url) FROM recordings`,
	); got != "https://recordings.exotel.com/c1.mp3 https://recordings.exotel.com/s1.mp3" {
		t.Errorf("recordings: %s", got)
	}
}

// TestPostgresKilledMidFlight verifies that no event answered 200 is lost when PostgreSQL crashes under load. The
// others are answered 503, and all are accepted within seconds.
func TestPostgresKilledMidFlight(t *testing.T) {
	pg, db, look := realStore(t)
	handler := handlerWith(t, webhook.Options{Store: db})
	var mu sync.Mutex
	acked := map[string]bool{}
	refused := 0
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const pause = 20 * time.Millisecond // a sender's, before it repeats an event
	for sender := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				call := fmt.Sprintf("s%di%d", sender, i)
				for body := "CallSid=" + call + "&Status=completed"; ; time.Sleep(pause) {
					recorder := post(handler, statusPath, sign(signingSecret, body), body)
					mu.Lock()
					switch recorder.Code {
					case http.StatusOK:
						acked[call] = true
					case http.StatusServiceUnavailable:
						refused++
					default:
						t.Errorf("%s: answered %d %s", call, recorder.Code, recorder.Body)
					}
					mu.Unlock()
					if recorder.Code != http.StatusServiceUnavailable {
						break
					}
				}
			}
		})
	}
	count := func() (int, int) {
		mu.Lock()
		defer mu.Unlock()
		return len(acked), refused
	}
	until := func(what string, done func() bool) {
		t.Helper()
		eventually.Within(20*time.Second).Holds(t, what, done)
	}
	until("50 events taken", func() bool { n, _ := count(); return n > 50 })
	pg.Stop(t)
	until("senders told", func() bool { _, n := count(); return n > 8 })
	pg.Start(t)
	before, _ := count()
	until("events taken again", func() bool { n, _ := count(); return n > before+50 })
	cancel()
	wg.Wait()
	if got, want := look(`SELECT count(*)::text || ' ' || count(DISTINCT call_sid) FROM call_events`), fmt.Sprintf(
		"%d %[1]d", len(acked),
	); got != want {
		t.Errorf("events and calls: %s, want %s: what was answered 200, once each", got, want)
	}
}
