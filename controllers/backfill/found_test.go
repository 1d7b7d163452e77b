package backfill

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// totals returns the calls of all runs of all tenants, by result.
func (s *subject) totals(t *testing.T) map[string]int64 {
	t.Helper()
	list, err := s.DB.BackfillTotals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, total := range list {
		sums[total.Result] += total.Calls
	}
	return sums
}

// TestWhatWasLostIsFound verifies that one run finds all calls whose webhooks were lost. Of 250 calls a third lost
// webhooks: all of them, all but the first, or the one that names the recording. Afterwards the rows equal those of a
// database that got all webhooks. Late webhooks and the next run change nothing.
func TestWhatWasLostIsFound(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	tenant := rig.tenant(t, "acme")
	whole := pgtest.New(t)
	all := storetest.Open(t, whole.OperatorDSN, store.OpenOperator)
	const calls = 250 // three pages
	var placed []exotelsim.PlacedCall
	lost := 0
	for i := range calls {
		placedCall := rig.placed(fmt.Sprintf("call%04d", i), begun(i))
		placed = append(placed, placedCall)
		rig.deliver(t, all, tenant, placedCall.Answered())
		rig.deliver(t, all, tenant, placedCall.Terminal())
		switch i % 9 {
		case 0: // nothing came
			lost++
		case 3: // its end is not known
			rig.deliver(t, rig.DB, tenant, placedCall.Answered())
			lost++
		case 6: // it came before its recording was there, or was cut
			fields := placedCall.Terminal()
			fields.Del("RecordingUrl")
			rig.deliver(t, rig.DB, tenant, fields)
			lost++
		default:
			rig.deliver(t, rig.DB, tenant, placedCall.Terminal())
		}
	}
	rig.exotel.Place(accountSID, placed...)
	want := rows(t, whole)
	if len(want) != calls {
		t.Fatalf("%d calls, want %d", len(want), calls)
	}

	stop := rig.start(t)
	backfillStatus := rig.succeeded(t, tenant)
	if d := cmp.Diff(want, rows(t, rig.PG)); d != "" {
		t.Fatalf("calls (-all came +found again):\n%s", d)
	}
	if *backfillStatus.FoundMissing != int32(lost) || *backfillStatus.Checked < calls ||
		backfillStatus.PendingFrom != nil ||
		!backfillStatus.NextRunTime.After(backfillStatus.LastRunTime.Time) {
		t.Errorf("status %+v; want %d found, at least %d checked and a next run", backfillStatus, lost, calls)
	}
	if n, single := rig.sent.count(); n > 3+lost+1 || single != lost {
		t.Errorf(
			"%d requests, %d about single calls; want a page each hundred and one for each of the %d", n, single, lost,
		)
	}

	for i := range placed {
		rig.deliver(t, rig.DB, tenant, placed[i].Answered())
		rig.deliver(t, rig.DB, tenant, placed[i].Terminal())
	}
	if d := cmp.Diff(want, rows(t, rig.PG)); d != "" {
		t.Errorf("calls, after webhooks came late (-want +got):\n%s", d)
	}

	rig.sent.reset()
	backfillStatus, _ = rig.again(t, tenant, stop)
	if got := rig.totals(t); got["found"] != int64(lost) || got["found_partial"] != 0 || got["left_out"] != 0 {
		t.Errorf("the totals of the tenants are %v, want %d found", got, lost)
	}
	if n, single := rig.sent.count(); *backfillStatus.FoundMissing != 0 || n != 3 || single != 0 {
		t.Errorf(
			"the next run found %d with %d requests, %d about single calls; want none, and three pages",
			*backfillStatus.FoundMissing,
			n,
			single,
		)
	}
	if d := cmp.Diff(want, rows(t, rig.PG)); d != "" {
		t.Errorf("calls, after the next run (-want +got):\n%s", d)
	}
}

// TestNotYet verifies that a run leaves calls that go on, and calls that Exotel has not completed, to a later run.
func TestNotYet(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	tenant := rig.tenant(t, "acme")
	on := rig.placed("goes-on", begun(0))
	on.Status = "in-progress"
	on.Ended = time.Time{}
	started := rig.placed("goes-on-and-started", begun(0)) // a suspect
	started.Status = "in-progress"
	started.Ended = time.Time{}
	rig.deliver(t, rig.DB, tenant, started.Answered())
	young := rig.placed("ended-just-now", time.Now().Add(-time.Minute).Truncate(time.Second))
	young.Ended = time.Time{}
	old := rig.placed("ended-long-ago", begun(1))
	old.Ended = time.Time{}
	missed := rig.placed("missed", begun(2)) // nobody took it, and Exotel calls it completed
	missed.Direction = "inbound"
	missed.Leg2Status = "no-answer"
	missed.RecordingURL = ""
	missed.ConversationSeconds = 0
	rig.exotel.Place(accountSID, on, started, young, old, missed)
	rig.ageSuspects(t)

	stop := rig.start(t)
	backfillStatus := rig.succeeded(t, tenant)
	got := rows(t, rig.PG)
	if len(got) != 2 || got[tenant.ID()+" missed"].State != 6 || *backfillStatus.FoundMissing != 1 {
		t.Errorf(
			"found %d: %+v; want the one that nobody took, and no more of the started one than before",
			*backfillStatus.FoundMissing,
			got,
		)
	}
	if n := rig.exotel.Requests("/v1/Accounts/acme1/Calls/ended-just-now.json"); n != 0 {
		t.Errorf("the call that ended just now was asked for %d times", n)
	}

	var ended []exotelsim.PlacedCall
	for _, c := range []exotelsim.PlacedCall{on, started, young, old} {
		c.Status, c.Ended, c.Updated = "completed", c.Started.Add(77*time.Second), time.Time{}
		ended = append(ended, c)
	}
	rig.exotel.Place(accountSID, ended...)
	backfillStatus, _ = rig.again(t, tenant, stop)
	got = rows(t, rig.PG)
	for _, c := range ended {
		if row := got[tenant.ID()+" "+c.SID]; row.State != 4 || !row.Ended.Equal(c.Ended) || len(row.Queued) != 1 {
			t.Errorf("%s: %+v; want it completed with its end and recording", c.SID, row)
		}
	}
	if *backfillStatus.FoundMissing != 4 {
		t.Errorf("found %d, want 4", *backfillStatus.FoundMissing)
	}
}

// TestSuspectsBeyondTheLookback are found all the same, since a webhook told of their start.
func TestSuspectsBeyondTheLookback(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	tenant := rig.tenant(t, "acme")
	placedCall := rig.placed("two-days-ago", time.Now().Add(-48*time.Hour).Truncate(time.Second))
	fields := placedCall.Answered()
	fields.Set("StartTime", placedCall.Terminal().Get("StartTime"))
	rig.deliver(t, rig.DB, tenant, fields)
	unknown := fields
	unknown.Set("CallSid", "unknown-to-exotel")
	rig.deliver(t, rig.DB, tenant, unknown)
	rig.exotel.Place(accountSID, placedCall)
	rig.start(t)
	backfillStatus := rig.succeeded(t, tenant)
	if got := rows(t, rig.PG)[tenant.ID()+" two-days-ago"]; got.State != 4 || len(got.Queued) != 1 ||
		*backfillStatus.FoundMissing != 1 {
		t.Errorf("found %d: %+v; want it completed, with its recording", *backfillStatus.FoundMissing, got)
	}
}

// TestZones verifies that the window is in the wall clock of the account's time zone. The run finds calls at its edges,
// and none outside.
func TestZones(t *testing.T) {
	for _, zone := range []string{"Asia/Kolkata", "Asia/Singapore", "America/New_York", "UTC"} {
		t.Run(zone, func(t *testing.T) {
			loc, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			rig := newSubject(t, exotelsim.Options{Zone: loc})
			tenant := rig.tenant(t, "acme", func(tenant *v1alpha1.Tenant) {
				tenant.Spec.Exotel.TimeZone = zone
				tenant.Spec.Exotel.Backfill.Lookback = ptr.To(metav1Duration(50 * time.Hour))
			})
			now := time.Now().Truncate(time.Second)
			want := map[string]bool{}
			for sid, ago := range map[string]time.Duration{
				"now":   2 * time.Second,
				"hour":  time.Hour,
				"edge1": 24 * time.Hour,
				"edge2": 48 * time.Hour,
				"first": 50*time.Hour - time.Minute,
			} {
				rig.exotel.Place(accountSID, rig.placed(sid, now.Add(-ago)))
				want[tenant.ID()+" "+sid] = true
			}
			// Room for clocks that were changed within.
			rig.exotel.Place(accountSID, rig.placed("before", now.Add(-52*time.Hour)))
			rig.start(t)
			rig.succeeded(t, tenant)
			got := map[string]bool{}
			for id, w := range rows(t, rig.PG) {
				got[id] = len(w.Queued) == 1 && w.Ended.Sub(w.Started) == 77*time.Second
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
		})
	}
}

// TestSuspectsTakeTurns checks that calls that Exotel does not know do not block the younger ones, and are asked about
// again.
func TestSuspectsTakeTurns(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	tenant := rig.tenant(t, "acme")
	for i, sid := range []string{"unknown0", "unknown1", "known"} {
		placedCall := rig.placed(sid, begun(i))
		fields := placedCall.Answered()
		fields.Set("StartTime", placedCall.Terminal().Get("StartTime"))
		rig.deliver(t, rig.DB, tenant, fields)
		if sid == "known" {
			rig.exotel.Place(accountSID, placedCall)
		}
	}
	fill := &Reconciler{
		Client:  rig.Client,
		Store:   rig.DB,
		Metrics: NewMetrics(prometheus.NewRegistry()),
		Sources: recording.SourcePolicy{AllowHTTP: true, AllowedCIDRs: loopback},
	}
	count := &counter{next: rig.sent, metrics: fill.Metrics}
	api, err := fill.newClient(tenant, &credentials{
		base:  rig.exotel.URL(),
		key:   key,
		token: token,
	}, calldetails.NewPacer(-1), count)
	if err != nil {
		t.Fatal(err)
	}
	var last store.Suspect
	var got []int
	for range 3 { // runs
		n := &run{
			r:       fill,
			tenant:  tenant,
			config:  compile.Tenant(tenant),
			client:  api,
			count:   count,
			now:     time.Now(),
			suspect: last,
			limits:  Limits{Suspects: 2}.withDefaults(),
		}
		if err := n.suspects(t.Context()); err != nil {
			t.Fatal(err)
		}
		last = n.suspect
		got = append(got, n.found, rig.exotel.Requests("/v1/Accounts/acme1/Calls/unknown0.json"))
	}
	if d := cmp.Diff([]int{0, 1, 1, 1, 0, 2}, got); d != "" {
		t.Errorf("found, and times the first was asked for, after each run (-want +got):\n%s", d)
	}
}
