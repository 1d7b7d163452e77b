package dataplane

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// ledger is what the senders know of each event: whether it was answered 2xx. Each call has two events, of two senders.
type ledger struct {
	t                 *testing.T
	plan              chaos
	begun             time.Time
	acked             []bool
	attempts, repeats atomic.Int64
}

func newLedger(t *testing.T, plan chaos) *ledger {
	t.Helper()
	return &ledger{t: t, plan: plan, begun: time.Now(), acked: make([]bool, plan.events)}
}

// burst is how far apart events are born, many at once: so that a kill finds many of them on their way.
const burst = 500 * time.Millisecond

const (
	answeredType = "answered"
	terminalType = "terminal"
)

// event tells which one the i-th is.
func (l *ledger) event(i int) keptKey {
	return keptKey{fmt.Sprintf("chaos%06d", i/2), [2]string{answeredType, terminalType}[i%2]}
}

func (l *ledger) fields(i int) url.Values {
	k := l.event(i)
	call := exotelsim.Call{
		SID:          k.call,
		From:         "09876543210",
		To:           "08030752400",
		Started:      l.begun.Add(-2 * time.Minute),
		Ended:        l.begun.Add(-time.Minute),
		RecordingURL: "https://recordings.exotel.com/exotelrecordings/acme/" + k.call + ".mp3",
	}
	if k.eventType == terminalType {
		return call.Terminal()
	}
	return call.Answered()
}

// send ends once every event was answered 2xx or given up, as Exotel gives up: after three attempts.
func (l *ledger) send(ctx context.Context, to string) {
	client := chaosClient(l.plan.senders)
	defer client.CloseIdleConnections()
	sender := exotelsim.Sender{Secret: calytest.SigningSecret, Wait: 300 * time.Millisecond, HTTP: client}
	var wg sync.WaitGroup
	for s := range l.plan.senders {
		wg.Go(func() {
			for i := s; i < l.plan.events && ctx.Err() == nil; i += l.plan.senders {
				born := l.plan.lasts * time.Duration(i) / time.Duration(l.plan.events)
				calytest.Pause(ctx, time.Until(l.begun.Add(born.Truncate(burst))))
				l.deliver(ctx, sender, to, i)
			}
		})
	}
	wg.Wait()
}

// deliver notes what became of an event. Some that were taken are sent again: that may have no effect.
func (l *ledger) deliver(ctx context.Context, sender exotelsim.Sender, to string, i int) {
	fields := l.fields(i)
	turn := i / l.plan.senders
	spelling := func(n int) exotelsim.Spelling { return exotelsim.Spellings[n%len(exotelsim.Spellings)] }
	_, attempts, err := sender.Send(ctx, to, fields, spelling(turn))
	l.attempts.Add(int64(attempts))
	l.acked[i] = err == nil
	if err == nil && turn%16 == 0 {
		_, _, _ = sender.Send(ctx, to, fields, spelling(turn))
		l.repeats.Add(1)
	}
}

// kept is what the database holds.
type kept struct {
	events map[keptKey]keptEvents
	calls  map[string]keptCall
}

type keptKey struct{ call, eventType string }

type keptEvents struct {
	n       int
	applied bool
}

type keptCall struct {
	state              store.CallState
	recordings, queued int
}

func readKept(t *testing.T, pg *pgtest.Server) kept {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	k := kept{map[keptKey]keptEvents{}, map[string]keptCall{}}
	var key keptKey
	var e keptEvents
	rows, _ := conn.Query(
		t.Context(),
		`SELECT call_sid, event_type, count(*), bool_and(applied_at IS NOT NULL) FROM call_events GROUP BY 1, 2`,
	)
	_, err = pgx.ForEachRow(
		rows, []any{&key.call, &key.eventType, &e.n, &e.applied}, func() error { k.events[key] = e; return nil },
	)
	if err != nil {
		t.Fatal(err)
	}
	var c keptCall
	rows, _ = conn.Query(t.Context(), `SELECT call_sid, state, cardinality(recording_ids), coalesce(queued, 0)
		FROM calls LEFT JOIN (SELECT call_sid, count(*) AS queued FROM recordings GROUP BY 1) r USING (call_sid)`)
	_, err = pgx.ForEachRow(
		rows, []any{&key.call, &c.state, &c.recordings, &c.queued}, func() error { k.calls[key.call] = c; return nil },
	)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// compare holds the database to the ledger.
func (l *ledger) compare(k kept) {
	l.t.Helper()
	var wrong []string
	acked := 0
	unheard := 0
	known := 0
	for i := range l.acked {
		got, there := k.events[l.event(i)]
		switch {
		case l.acked[i]:
			acked++
		case there:
			unheard++
		}
		if there {
			known++
		}
		if (there || l.acked[i]) && got != (keptEvents{1, true}) {
			wrong = append(wrong, fmt.Sprintf("%v, answered 2xx: %t, is kept as %+v", l.event(i), l.acked[i], got))
		}
	}
	wrong = append(wrong, l.compareCalls(k)...)
	l.t.Logf(
		"of %d events %d were answered 2xx in %d attempts, %d sent again; %d were kept though no sender heard of it",
		len(l.acked),
		acked,
		l.attempts.Load(),
		l.repeats.Load(),
		unheard,
	)
	if known != len(k.events) {
		wrong = append(wrong, fmt.Sprintf("%d events are kept, %d of them were sent", len(k.events), known))
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		l.t.Errorf("%d wrong, among them %q", len(wrong), wrong[:min(len(wrong), 10)])
	}
	if l.repeats.Load() == 0 || acked < len(l.acked)/2 || l.attempts.Load() <= int64(len(l.acked)) {
		l.t.Error("too few were answered, or none had to come again: this proves nothing")
	}
}

// compareCalls holds each call to its events that are kept: none is applied by half.
func (l *ledger) compareCalls(k kept) (wrong []string) {
	want := map[string]keptCall{}
	for e := range k.events {
		c := keptCall{state: store.CallInProgress}
		if e.eventType == terminalType {
			c = keptCall{store.CallCompleted, 1, 1}
		}
		if c.state > want[e.call].state {
			want[e.call] = c
		}
	}
	for sid, c := range k.calls {
		if c != want[sid] {
			wrong = append(wrong, fmt.Sprintf("call %s is %+v, want %+v", sid, c, want[sid]))
		}
	}
	if len(k.calls) != len(want) {
		wrong = append(wrong, fmt.Sprintf("%d calls, want %d", len(k.calls), len(want)))
	}
	return wrong
}
