package ingest_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/outcome"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// words are Exotel's, by what they mean.
var words = map[outcome.State]string{
	outcome.Ringing:    "ringing",
	outcome.InProgress: "in-progress",
	outcome.Completed:  "completed",
	outcome.Busy:       "busy",
	outcome.NoAnswer:   "no-answer",
	outcome.Failed:     "failed",
	outcome.Canceled:   "canceled",
}

var finals = []outcome.State{outcome.Completed, outcome.Busy, outcome.NoAnswer, outcome.Failed, outcome.Canceled}

// truth is what a history says, as the person who made it knows it.
type truth struct {
	talked      bool
	whole, legs []outcome.Statement
}

// outcome is the rule in words, without weights.
func (h truth) outcome() outcome.State {
	if h.talked {
		return outcome.Completed
	}
	for _, class := range []struct {
		of    []outcome.Statement
		final bool
	}{{h.whole, true}, {h.whole, false}, {h.legs, true}, {h.legs, false}} {
		var of []outcome.Statement
		for _, s := range class.of {
			if s.State != outcome.Unknown && s.State.Final() == class.final {
				of = append(of, s)
			}
		}
		if len(of) == 0 {
			continue
		}
		return slices.MaxFunc(of, func(a, b outcome.Statement) int {
			if c := a.At.Compare(b.At); c != 0 && class.final {
				return c
			}
			return precedence(a) - precedence(b)
		}).State
	}
	return outcome.Unknown
}

// precedence orders the statements of one second: completed counts if it is about the whole call.
func precedence(s outcome.Statement) int {
	if s.Whole && s.State == outcome.Completed {
		return len(outcome.Names())
	}
	return int(s.State)
}

// history draws what Exotel sends of one call, through the code that reads it, and keeps what it means.
type history struct {
	*rapid.T
	truth
	events []func(sid string) store.Event
}

func (h *history) pick(name string, of ...string) string {
	return rapid.SampledFrom(of).Draw(h.T, name)
}

func (h *history) chance(name string) bool { return rapid.IntRange(0, 3).Draw(h.T, name) == 0 }

var callStart = time.Date(2026, 10, 1, 4, 30, 0, 0, time.UTC)

// clock draws a time of Exotel's, or none.
func (h *history) clock(name string) (at time.Time, spelled string) {
	n := rapid.IntRange(-1, 5).Draw(h.T, name)
	if n < 0 {
		return time.Time{}, ""
	}
	at = callStart.Add(time.Duration(n) * time.Minute)
	return at, at.In(calldetails.IST).Format("2006-01-02 15:04:05")
}

// send adds a delivery, and perhaps its repetition, which has another CurrentTime, on either route.
func (h *history) send(fields url.Values) {
	for range rapid.IntRange(1, 2).Draw(h.T, "deliveries") {
		_, now := h.clock("now")
		kind := h.pick("route", exotel.KindStatus, exotel.KindPassthru)
		h.events = append(h.events, func(sid string) store.Event {
			again := url.Values{"CallSid": {sid}, "CurrentTime": {now}}
			for name, values := range fields {
				again[name] = values
			}
			return ingest.Build(acme, recording.SourcePolicy{}, ingest.Delivery{
				Kind:       kind,
				Source:     ingest.SourceWebhook,
				Fields:     exotel.Request{Method: "GET", RawQuery: again.Encode()},
				Query:      again.Encode(),
				Raw:        []byte{},
				ReceivedAt: callStart,
			})
		})
	}
}

// popup tells that an agent is rung, or free again.
func (h *history) popup(number string) {
	presence := h.pick("presence", "busy", "free")
	kind := h.pick("popup", "Dial", "Answered", "")
	if presence == "free" {
		kind = "Terminal"
	}
	h.send(url.Values{
		"EventType":      {kind},
		"Status":         {presence},
		"DialWhomNumber": {number},
		"AgentEmail":     {"agent" + number + "@acme.example"},
		"CallFrom":       {"0987"},
	})
}

// applet is a Connect applet that dials a hunt group in turn, and the Passthru after it.
func (h *history) applet(flow int) {
	fields := url.Values{
		"flow_id":   {strconv.Itoa(flow)},
		"Direction": {"incoming"},
		"EndTime":   {"1970-01-01 05:30:00"},
	}
	number := h.pick("number", "09111111111", "09222222222")
	state := rapid.SampledFrom(finals).Draw(h.T, "result")
	stage := outcome.Unknown
	if h.chance("the call at this stage") {
		stage = rapid.SampledFrom([]outcome.State{outcome.InProgress, outcome.Busy, outcome.NoAnswer}).Draw(h.T,
			"stage")
		fields.Set("CallStatus", words[stage])
		h.legs = append(h.legs, outcome.Statement{State: stage})
	}
	fields.Set("DialWhomNumber", number)
	h.legs = append(h.legs, outcome.Statement{State: state})
	switch {
	case stage != outcome.InProgress && h.chance("without DialCallStatus") && (state == outcome.Completed ||
		state == outcome.Canceled ||
		state == outcome.NoAnswer):
		fields.Set("CallType", map[outcome.State]string{
			outcome.Completed: "completed",
			outcome.Canceled:  "client-hangup",
			outcome.NoAnswer:  h.pick("CallType", "incomplete", "voicemail"),
		}[state])
	default:
		fields.Set("DialCallStatus", words[state])
	}
	seconds := 0
	if state == outcome.Completed {
		h.talked, seconds = true, rapid.IntRange(0, 60).Draw(h.T, "talk")
	}
	if h.chance("listed") {
		fields.Set("Legs[0][Number]", number)
		fields.Set("Legs[0][OnCallDuration]", strconv.Itoa(seconds))
	}
	h.send(fields)
}

// statusCallback tells of the whole call. That its first leg was answered does not count as talk.
func (h *history) statusCallback() {
	statement := outcome.Statement{Whole: true}
	var updated string
	statement.At, updated = h.clock("updated")
	fields := url.Values{"DateUpdated": {updated}, "From": {"0987"}, "To": {"0912"}, "Direction": {"outbound-api"}}
	switch h.pick("event", "answered", "ringing", "terminal", "") {
	case "answered":
		statement.State = outcome.InProgress
		fields.Set("EventType", "answered")
	case "ringing":
		statement.State = outcome.Ringing
		fields.Set("EventType", "ringing")
		fields.Set("Status", "ringing")
	default:
		statement.State = rapid.SampledFrom(finals).Draw(h.T, "status")
		fields.Set("EventType", "terminal")
		fields.Set("Status", words[statement.State])
		h.terminalLegs(fields)
	}
	h.whole = append(h.whole, statement)
	h.send(fields)
}

func (h *history) terminalLegs(fields url.Values) {
	if !h.chance("legs") {
		return
	}
	second := rapid.SampledFrom(finals).Draw(h.T, "second leg")
	fields.Set("Legs[0][Status]", "completed")
	fields.Set("Legs[0][OnCallDuration]", "41")
	fields.Set("Legs[1][Status]", words[second])
	h.legs = append(h.legs, outcome.Statement{State: second})
	if second == outcome.Completed {
		h.talked = true
		fields.Set("Legs[1][OnCallDuration]", "40")
	}
}

// backfill is a record of Call Details.
func (h *history) backfill() {
	statement := outcome.Statement{Whole: true, State: rapid.SampledFrom(finals).Draw(h.T, "record")}
	var updated string
	if statement.At, updated = h.clock("updated"); statement.At.IsZero() {
		statement.At = callStart.Add(5 * time.Minute) // its end
	}
	talk := rapid.SampledFrom([]int{0, 0, 0, 8}).Draw(h.T, "conversation")
	h.talked = h.talked || talk > 0
	h.whole = append(h.whole, statement)
	raw := `{"Sid":%q,"AccountSid":"acme1","DateUpdated":%q,"Status":%q,` +
		`"Direction":"outbound-api","From":"0987","To":"0912",` +
		`"EndTime":"2026-10-01 10:05:00","Details":{"ConversationDuration":%d,"Leg1Status":"completed"}}`
	h.events = append(h.events, func(sid string) store.Event {
		raw := fmt.Appendf(nil, raw, sid, updated, words[statement.State], talk)
		call, err := calldetails.Decode(raw, calldetails.IST)
		if err != nil {
			h.Fatal(err)
		}
		event, err := ingest.FromCall(acme, recording.SourcePolicy{}, &call, raw)
		if err != nil {
			h.Fatal(err)
		}
		return event
	})
}

// stream is what a Passthru says of an audio stream.
func (h *history) stream() {
	h.send(url.Values{
		"Stream[StreamSID]": {h.pick("stream", "s1", "s2")},
		"Stream[Status]": {h.pick("end",
			"completed", "failed", "cancelled", "started", "zombie")},
		"Stream[Duration]":       {strconv.Itoa(rapid.IntRange(0, 9).Draw(h.T, "length"))},
		"Stream[DisconnectedBy]": {h.pick("by", "user", "bot", "NA")},
	})
}

func drawHistory(t *rapid.T) *history {
	h := &history{T: t}
	for flow := range rapid.IntRange(0, 3).Draw(t, "applets") {
		for range rapid.IntRange(0, 2).Draw(t, "popups") {
			h.popup(h.pick("agent", "09111111111", "09222222222"))
		}
		h.applet(flow)
	}
	for range rapid.IntRange(0, 3).Draw(t, "callbacks") {
		h.statusCallback()
	}
	if h.chance("backfill") {
		h.backfill()
	}
	if h.chance("stream") {
		h.stream()
		h.stream()
	}
	return h
}

// in returns the history's events in some order, with repetitions, for a call.
func (h *history) in(sid string) []store.Event {
	if len(h.events) == 0 {
		return nil
	}
	again := rapid.SliceOfN(rapid.SampledFrom(h.events), 0, 3).Draw(h.T, "again")
	var list []store.Event
	for _, event := range rapid.Permutation(append(again, h.events...)).Draw(h.T, "order") {
		list = append(list, event(sid))
	}
	return list
}

// applied is what applying some events makes of a call, without a database: the outcome, and the weightiest of each
// leg.
func applied(events []store.Event) (outcome.State, map[string]outcome.State) {
	var all []outcome.Weight
	legs := map[string]outcome.State{}
	seen := map[[32]byte]bool{}
	weights := map[string]outcome.Weight{}
	for i := range events {
		event := &events[i]
		if seen[event.DedupKey] {
			continue
		}
		seen[event.DedupKey] = true
		whole, called := event.Weights()
		all = append(all, whole, called)
		for _, l := range event.Legs {
			weight := outcome.Statement{
				State: l.State,
				At:    event.SaidAt,
				Talked: l.Seconds > 0 ||
					l.State == outcome.Completed,
			}.Weight()
			weights[l.Key] = max(weights[l.Key], weight)
			legs[l.Key] = weights[l.Key].State()
		}
	}
	return slices.Max(append(all, 0)).State(), legs
}

// TestHistories verifies that a call's outcome is that of its history, for any order, repetition and route of the
// events.
func TestHistories(t *testing.T) {
	for range 50 { // 100 histories each
		rapid.Check(t, func(t *rapid.T) {
			history := drawHistory(t)
			_, legs := applied(history.in("c1"))
			for range 3 {
				events := history.in("c1")
				got, gotLegs := applied(events)
				if want := history.outcome(); got != want {
					t.Fatalf("outcome %d, want %d, after %+v", got, want, events)
				}
				if d := cmp.Diff(legs, gotLegs); d != "" {
					t.Fatalf("legs (-one order +another):\n%s", d)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}

// TestHistoriesInPostgreSQL verifies that the database reaches the same outcome and the same rows, in batches of any
// size.
func TestHistoriesInPostgreSQL(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.DataplaneDSN, store.OpenDataplane)
	admin, err := pgxpool.New(t.Context(), pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	n := 0
	for range 6 {
		rapid.Check(t, func(t *rapid.T) {
			history := drawHistory(t)
			n++
			var rows [2][]string
			for i := range rows {
				sid := fmt.Sprintf("call-%d-%d", n, i)
				for rest := history.in(sid); len(rest) > 0; {
					size := rapid.IntRange(1, len(rest)).Draw(t, "batch")
					if _, err := db.IngestBatch(context.Background(), rest[:size]); err != nil {
						t.Fatal(err)
					}
					rest = rest[size:]
				}
				rows[i] = rowsOf(t, admin, sid)
			}
			if d := cmp.Diff(rows[0], rows[1]); d != "" {
				t.Fatalf("rows after one order and after another differ:\n%s", d)
			}
			if len(history.events) > 0 {
				if want := fmt.Sprintf("(%d,", history.outcome()); rows[0][0][:len(want)] != want {
					t.Fatalf("the call is %s, want state %d", rows[0][0], history.outcome())
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}

// rowsOf is all that is stored of a call, but for times of our own and of the requests.
func rowsOf(t interface{ Fatal(...any) }, db *pgxpool.Pool, sid string) (rows []string) {
	for _, sql := range []string{
		`SELECT (state, whole_weight, legs_weight, direction, from_number, to_number, started_at, ended_at,
			conversation_seconds)::text
			FROM calls WHERE call_sid = $1`,
		`SELECT (key, value - 'at')::text FROM calls, jsonb_each(legs) WHERE call_sid = $1 ORDER BY key`,
		`SELECT (stream_sid, weight, status, duration_seconds, disconnected_by)::text FROM call_streams WHERE
			call_sid = $1 ORDER BY stream_sid`,
	} {
		var list []string
		err := db.QueryRow(context.Background(), `SELECT coalesce(array_agg(x), '{}') FROM (`+sql+`) q(x)`,
			sid).Scan(&list)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, list...)
	}
	return rows
}
