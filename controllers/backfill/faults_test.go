package backfill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/netguard"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

const listPath = "/v1/Accounts/acme1/Calls.json"

// guarded leads to public addresses alone, as on a platform that allows no other.
func guarded() http.RoundTripper { return netguard.NewTransport(nil, nil, 1) }

// placeMany places n calls for which no webhook arrived.
func (r *subject) placeMany(n int) {
	for i := range n {
		r.exotel.Place(accountSID, r.placed(fmt.Sprintf("call%04d", i), begun(i)))
	}
}

// complete tells whether all n calls of placeMany are there, each with its one recording.
func (r *subject) complete(t *testing.T, tenant *v1alpha1.Tenant, n int) error {
	t.Helper()
	got := rows(t, r.PG)
	for id, w := range got {
		if w.State != 4 || len(w.Queued) != 1 || len(w.Recordings) != 1 || w.Tenant != tenant.ID() {
			return fmt.Errorf("%s: %+v", id, w)
		}
	}
	if len(got) != n {
		return fmt.Errorf("%d calls, want %d", len(got), n)
	}
	return nil
}

// poke changes the Tenant in ways that mean nothing. Each change is a reason to reconcile.
func (r *subject) poke(t *testing.T, tenant *v1alpha1.Tenant, times int) {
	t.Helper()
	for i := range times {
		patch := client.RawPatch(
			types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"poked":"%d"}}}`, i),
		)
		if err := r.Client.Patch(t.Context(), tenant, patch); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *subject) events(t *testing.T) map[string]int {
	t.Helper()
	var list eventsv1.EventList
	if err := r.Client.List(t.Context(), &list, client.InNamespace(r.Namespace)); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, e := range list.Items {
		got[e.Type+" "+e.Reason]++
	}
	return got
}

// TestRefused checks that a refusal ends in a condition after a request or two, stays at that until the next interval
// whatever else happens, and ends once it is corrected.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		breaks, corrects func(*testing.T, *subject, *v1alpha1.Tenant)
		wantReason       string
		wantMessage      string
		wantRequests     int
	}{
		"a wrong token": {
			func(t *testing.T, r *subject, _ *v1alpha1.Tenant) { r.putSecret(t, "acme", "wrong-token") },
			func(t *testing.T, r *subject, _ *v1alpha1.Tenant) { r.putSecret(t, "acme", token) },
			v1alpha1.ReasonBackfillCredentialsRefused, "check the region", 1},
		"a wrong region": {
			func(_ *testing.T, r *subject, _ *v1alpha1.Tenant) {
				r.exotel.SetAllDetails(exotelsim.DetailQuirks{Status: 403})
			},
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.exotel.SetDetails(listPath, exotelsim.DetailQuirks{})
				r.exotel.SetAllDetails(exotelsim.DetailQuirks{})
				r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL += "/" })
			}, v1alpha1.ReasonBackfillCredentialsRefused, "check the region", 1},
		"an account of the other cluster": {
			func(_ *testing.T, r *subject, _ *v1alpha1.Tenant) {
				r.exotel.SetAllDetails(exotelsim.DetailQuirks{Status: 404})
			},
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.exotel.SetDetails(listPath, exotelsim.DetailQuirks{})
				r.exotel.SetAllDetails(exotelsim.DetailQuirks{})
				r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL += "/" })
			}, v1alpha1.ReasonBackfillCredentialsRefused, "check the region", 1},
		"an address with a path": {
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL += "/v1" })
			},
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL = r.exotel.URL() })
			}, v1alpha1.ReasonInvalidSpec, "scheme and host alone", 0},
		"a private address": {
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL = "https://169.254.169.254" })
			},
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
				r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL = r.exotel.URL() })
			}, v1alpha1.ReasonInvalidSpec, "169.254.169.254 is private", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t, exotelsim.Options{})
			r.placeMany(3)
			tenant := r.tenant(t, "acme")
			tc.breaks(t, r, tenant)
			r.start(t)
			backfillStatus := r.until(t, tenant, metav1.ConditionFalse, tc.wantReason)
			wantNext := tc.wantReason != v1alpha1.ReasonInvalidSpec
			ready := apimeta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)
			if (backfillStatus.NextRunTime != nil) != wantNext || !ready {
				t.Errorf(
					"next run at %v, want one: %v; Ready %v, want it untouched",
					backfillStatus.NextRunTime,
					wantNext,
					ready,
				)
			}
			condition := apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionBackfillSucceeded)
			if !strings.Contains(condition.Message, tc.wantMessage) {
				t.Errorf("the message %q does not say %q", condition.Message, tc.wantMessage)
			}
			r.poke(t, tenant, 5)
			if n, _ := r.sent.count(); n != tc.wantRequests || r.runs(t, resultRejected) != 1 {
				t.Errorf("%d requests and %v runs, want %d and one", n, r.runs(t, resultRejected), tc.wantRequests)
			}
			tc.corrects(t, r, tenant)
			r.succeeded(t, tenant)
			if err := r.complete(t, tenant, 3); err != nil {
				t.Error(err)
			}
			eventually.Within(soon).Succeeds(t, func(context.Context) error {
				if d := cmp.Diff(map[string]int{
					"Warning " + tc.wantReason: 1,
					"Normal BackfillSucceeded": 1,
				}, r.events(t)); d != "" {
					return fmt.Errorf("events (-want +got):\n%s", d)
				}
				return nil
			})
		})
	}
}

// TestPolicy verifies that the operator sends no request over plain HTTP or to a private address unless the platform
// allows it.
func TestPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		change     func(*Reconciler)
		url        func(string) string
		wantReason string
	}{
		"plain http": {func(f *Reconciler) { f.Sources.AllowHTTP = false }, func(u string) string { return u }, v1alpha1.ReasonInvalidSpec},
		"a private address behind a name": {func(f *Reconciler) { f.Sources.AllowedCIDRs, f.Transport = nil, guarded() },
			func(u string) string { return strings.Replace(u, "127.0.0.1", "localhost", 1) }, v1alpha1.ReasonBackfillUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t, exotelsim.Options{})
			rig.placeMany(1)
			rig.change = tc.change
			tenant := rig.tenant(
				t,
				"acme",
				func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL = tc.url(tenant.Spec.Exotel.APIBaseURL) },
			)
			rig.start(t)
			rig.until(t, tenant, metav1.ConditionFalse, tc.wantReason)
			if n := rig.exotel.Requests(listPath); n != 0 {
				t.Errorf("%d requests came through", n)
			}
		})
	}
}

// TestUnavailable checks that a failure that may pass is tried again at the next interval, or once the spec changes,
// from the place where it stopped.
func TestUnavailable(t *testing.T) {
	for name, quirks := range map[string]exotelsim.DetailQuirks{
		"an outage":                   {Status: 503},
		"a page":                      {HTML: true},
		"asked for too much patience": {TooMany: 9, RetryAfter: 2 * time.Minute},
		"a circle":                    {SamePage: true},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t, exotelsim.Options{})
			rig.placeMany(3)
			rig.exotel.SetDetails(listPath, quirks)
			tenant := rig.tenant(t, "acme")
			stop := rig.start(t)
			backfillStatus := rig.until(t, tenant, metav1.ConditionFalse, v1alpha1.ReasonBackfillUnavailable)
			rig.poke(t, tenant, 5)
			if n, _ := rig.sent.count(); n > 2 {
				t.Errorf("%d requests, want at most two tries", n)
			}
			wait := backfillStatus.NextRunTime.Sub(backfillStatus.LastRunTime.Time)
			if wait != 15*time.Minute || backfillStatus.PendingFrom == nil || backfillStatus.LastSuccessTime != nil {
				t.Errorf("status %+v; want the next run after the interval, from where this one was", backfillStatus)
			}
			rig.exotel.SetDetails(listPath, exotelsim.DetailQuirks{})
			backfillStatus, _ = rig.again(t, tenant, stop)
			if backfillStatus.PendingFrom != nil || backfillStatus.LastSuccessTime == nil {
				t.Errorf("status %+v; want a success", backfillStatus)
			}
			if err := rig.complete(t, tenant, 3); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAskedToWait verifies that a run waits out Exotel's rate limit and then continues.
func TestAskedToWait(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	rig.placeMany(5)
	rig.exotel.SetDetails(listPath, exotelsim.DetailQuirks{TooMany: 1, RetryAfter: time.Second})
	rig.exotel.SetDetails("/v1/Accounts/acme1/Calls/call0003.json", exotelsim.DetailQuirks{
		TooMany:    1,
		RetryAfter: time.Second,
	})
	tenant := rig.tenant(t, "acme")
	rig.start(t)
	rig.succeeded(t, tenant)
	if err := rig.complete(t, tenant, 5); err != nil {
		t.Error(err)
	}
	rig.sent.mu.Lock()
	defer rig.sent.mu.Unlock()
	if len(rig.sent.times) != 8 || rig.sent.times[7].Sub(rig.sent.times[0]) < 2*time.Second {
		t.Errorf(
			"%d requests within %s, want 8 and two seconds of waiting",
			len(rig.sent.times),
			rig.sent.times[len(rig.sent.times)-1].Sub(rig.sent.times[0]),
		)
	}
	if n, _ := rig.metric(t, "caly_backfill_requests_total", ""); n != 8 {
		t.Errorf("%v requests were counted", n)
	}
}

// TestTwoTenantsOfOneAccount share its pace, and each finds its own calls: by the ExoPhone, or because it knows them.
func TestTwoTenantsOfOneAccount(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	const every = 40 * time.Millisecond
	rig.change = func(f *Reconciler) { f.Interval = every }
	number := func(n string) func(*v1alpha1.Tenant) {
		return func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.PhoneNumbers = []string{n} }
	}
	one := rig.tenant(t, "one", number("+918047491899"))
	two := rig.tenant(t, "two", number("+918047491900"))
	none := rig.tenant(t, "none")
	for _, tenant := range []*v1alpha1.Tenant{one, two, none} {
		rig.hold(t, tenant)
	}
	want := map[string]bool{}
	for i := range 12 {
		placedCall := rig.placed(fmt.Sprintf("call%04d", i), begun(i))
		owner := one
		switch i % 3 {
		case 1:
			placedCall.PhoneNumber = "08047491900"
			owner = two
		case 2:
			placedCall.PhoneNumber = "08047490000"
			owner = none
			rig.deliver(t, rig.DB, none, placedCall.Answered())
		}
		if i == 11 {
			placedCall.PhoneNumber = "08047490001" // nobody's, and nobody knows it
			placedCall.SID = "nobodys"
		} else {
			want[owner.ID()+" "+placedCall.SID] = true
		}
		rig.exotel.Place(accountSID, placedCall)
	}
	rig.ageSuspects(t)
	rig.start(t)
	for _, tenant := range []*v1alpha1.Tenant{one, two, none} {
		rig.succeeded(t, tenant)
	}
	got := map[string]bool{}
	for id, w := range rows(t, rig.PG) {
		if id != none.ID()+" call0011" { // its webhook came and Exotel knows nothing of it
			got[id] = w.State == 4 && len(w.Queued) == 1
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
	rig.sent.mu.Lock()
	defer rig.sent.mu.Unlock()
	n := len(rig.sent.times)
	if took := rig.sent.times[n-1].Sub(rig.sent.times[0]); n < 14 || took < time.Duration(n-1)*every-every/2 {
		t.Errorf("%d requests of three Tenants within %s, want %s between two", n, took, every)
	}
}

// TestAccountOfAnother is about a Tenant whose spec has the account and the number of another one. It gets no call, and
// the holder of the account loses none.
func TestAccountOfAnother(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	rig.placeMany(3)
	holder := rig.tenant(t, "acme")
	rig.hold(t, holder)
	evil := rig.tenant(t, "evil", func(o *v1alpha1.Tenant) { o.Spec.Exotel.PhoneNumbers = []string{"+918047491899"} })
	rig.start(t)
	rig.succeeded(t, holder)
	if err := rig.complete(t, holder, 3); err != nil {
		t.Error(err)
	}
	rig.poke(t, evil, 2)
	for id := range rows(t, rig.PG) {
		if strings.HasPrefix(id, evil.ID()+" ") {
			t.Errorf("%s has a call of the account", id)
		}
	}
}

// TestBounds verifies that a run that reaches a limit continues later from its last position. In the end all calls are
// stored.
func TestBounds(t *testing.T) {
	for name, limits := range map[string]Limits{"requests": {Requests: 7}, "calls": {Calls: 7}} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t, exotelsim.Options{})
			rig.placeMany(20)
			rig.change = func(f *Reconciler) { f.Limits = limits }
			tenant := rig.tenant(t, "acme")
			stop := rig.start(t)
			backfillStatus := rig.succeeded(t, tenant)
			if backfillStatus.PendingFrom == nil || !backfillStatus.PendingFrom.Equal(backfillStatus.WindowEnd) ||
				backfillStatus.NextRunTime.Sub(backfillStatus.LastRunTime.Time) != catchUp ||
				rig.runs(t, resultPending) != 1 {
				t.Fatalf("status %+v; want it to go on soon", backfillStatus)
			}
			for runs := 1; backfillStatus.PendingFrom != nil; runs++ {
				before := backfillStatus
				if backfillStatus, stop = rig.again(
					t, tenant, stop,
				); runs > 6 || !backfillStatus.WindowStart.Equal(before.PendingFrom) ||
					backfillStatus.WindowEnd.Before(before.WindowEnd) {
					t.Fatalf("run %d: status %+v after %+v; want it to go on from there", runs, backfillStatus, before)
				}
			}
			if err := rig.complete(t, tenant, 20); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestKilled verifies that the next operator completes a run that an earlier operator left half done.
func TestKilled(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	rig.placeMany(230)
	rig.exotel.SetAllDetails(exotelsim.DetailQuirks{Delay: 5 * time.Millisecond})
	tenant := rig.tenant(t, "acme")
	for range 2 {
		stop := rig.start(t)
		had := len(rows(t, rig.PG))
		eventually.Within(soon).Succeeds(t, func(context.Context) error {
			if n := len(rows(t, rig.PG)); n <= had || n == 230 {
				return fmt.Errorf("%d calls", n)
			}
			return nil
		})
		stop()
	}
	rig.start(t)
	rig.succeeded(t, tenant)
	if err := rig.complete(t, tenant, 230); err != nil {
		t.Error(err)
	}
}

// TestLeftAlone verifies that a Tenant that is suspended, not ready or without backfill gets no run until that changes.
func TestLeftAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		off, on func(*testing.T, *subject, *v1alpha1.Tenant)
	}{
		"suspended": {func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Suspend = new(true) })
		}, func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Suspend = nil })
		}},
		"suspended by the platform": {func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.annotate(t, v1alpha1.AnnotationSuspend+"."+tenant.Name, `"unpaid"`)
		}, func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.annotate(t, v1alpha1.AnnotationSuspend+"."+tenant.Name, "null")
			r.poke(t, tenant, 1) // as the tenant controller does when it removes the condition
		}},
		"not ready": {func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) { r.setReady(t, tenant, false) },
			func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) { r.setReady(t, tenant, true) }},
		"no backfill": {func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.Backfill = nil })
		}, func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.Backfill = &v1alpha1.BackfillSpec{} })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t, exotelsim.Options{})
			r.placeMany(2)
			tenant := r.tenant(t, "acme")
			tc.off(t, r, tenant)
			other := r.tenant(t, "other", func(o *v1alpha1.Tenant) { o.Spec.Exotel.AccountSID = "other1" })
			r.start(t)
			r.poke(t, tenant, 3)
			r.succeeded(t, other) // so the operator was at work meanwhile
			if n := r.exotel.Requests(listPath); n != 0 || tenant.Status.Backfill != nil {
				t.Errorf("%d requests, status %v; want none", n, tenant.Status.Backfill)
			}
			tc.on(t, r, tenant)
			r.succeeded(t, tenant)
			if err := r.complete(t, tenant, 2); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStoppedInTheMiddle verifies that a Tenant that is suspended or deleted during its run gets no more rows.
func TestStoppedInTheMiddle(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *subject, *v1alpha1.Tenant){
		"suspended": func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			r.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Suspend = new(true) })
		},
		"suspended by the platform": func(t *testing.T, r *subject, _ *v1alpha1.Tenant) {
			r.annotate(t, v1alpha1.AnnotationSuspend, `"unpaid"`)
		},
		"deleted": func(t *testing.T, r *subject, tenant *v1alpha1.Tenant) {
			if err := r.Client.Delete(t.Context(), tenant); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSubject(t, exotelsim.Options{})
			r.placeMany(30)
			r.exotel.SetDetails("/v1/Accounts/acme1/Calls/call0010.json", exotelsim.DetailQuirks{Delay: time.Second})
			tenant := r.tenant(t, "acme")
			r.start(t)
			eventually.Within(soon).Succeeds(t, func(context.Context) error {
				if r.exotel.Requests("/v1/Accounts/acme1/Calls/call0010.json") == 0 {
					return errors.New("the run is not in the middle yet")
				}
				return nil
			})
			end(t, r, tenant)
			eventually.Within(soon).Succeeds(t, func(context.Context) error {
				if r.runs(t, resultStopped) != 1 {
					return errors.New("the run goes on")
				}
				return nil
			})
			if got := rows(t, r.PG); len(got) != 0 {
				t.Errorf("%d calls were applied after that", len(got))
			}
		})
	}
}

// TestTurnedOff verifies that the status of backfill, its condition and its metric disappear when the spec turns
// backfill off.
func TestTurnedOff(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	tenant := rig.tenant(t, "acme")
	rig.start(t)
	backfillStatus := rig.succeeded(t, tenant)
	if at, _ := rig.metric(t, "caly_backfill_last_success_timestamp_seconds", tenant.ID()); at != float64(
		backfillStatus.LastSuccessTime.Unix(),
	) {
		t.Errorf("last success at %v by the metric, %v by the status", at, backfillStatus.LastSuccessTime)
	}
	rig.update(t, tenant, func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.Backfill = nil })
	eventually.Within(soon).Succeeds(t, func(ctx context.Context) error {
		if err := rig.Client.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
			return err
		}
		_, there := rig.metric(t, "caly_backfill_last_success_timestamp_seconds", tenant.ID())
		if tenant.Status.Backfill != nil ||
			apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionBackfillSucceeded) != nil ||
			there {
			return fmt.Errorf("status %+v, metric %v", tenant.Status, there)
		}
		return nil
	})
}

// TestPoison checks that a call with more recordings than a call may have, and one whose recording the Tenant does not
// allow, are applied without the recording and reported, and are not asked for again.
func TestPoison(t *testing.T) {
	rig := newSubject(t, exotelsim.Options{})
	tenant := rig.tenant(t, "acme")
	rig.placeMany(5)
	full := rig.placed("full", begun(2))
	for i := range 16 {
		u := exotelsim.RecordingURL(rig.exotel.URL(), accountSID, fmt.Sprint("other", i), 1)
		if _, err := rig.DB.Enqueue(t.Context(), tenant.ID(), "full", store.NewRecording{
			ID:        recording.ID("full", u),
			SourceURL: u,
		}); err != nil {
			t.Fatal(err)
		}
	}
	evil := rig.placed("evil", begun(3))
	evil.RecordingURL = "https://evil.example/x.mp3"
	rig.exotel.Place(accountSID, full, evil)
	stop := rig.start(t)
	backfillStatus := rig.succeeded(t, tenant)
	got := rows(t, rig.PG)
	_, there := got[tenant.ID()+" evil"]
	if !there || *backfillStatus.FoundMissing != 7 || len(got) != 7 || len(got[tenant.ID()+" full"].Queued) != 16 {
		t.Errorf(
			"found %d, %d calls; want seven found, and 16 recordings of the full one",
			*backfillStatus.FoundMissing,
			len(got),
		)
	}
	api := storetest.Open(t, rig.PG.DataplaneDSN, store.OpenDataplane)
	rejected, _, err := api.ListRecordings(t.Context(), tenant.ID(), store.RecordingFilter{CallSID: "evil"})
	if err != nil || len(rejected) != 1 || rejected[0].LastErrorCode != reason.SourceRejected {
		t.Errorf("the recording of the evil one: %+v, %v", rejected, err)
	}
	condition := apimeta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionBackfillSucceeded)
	if want := "Of 2 calls a field could not be read or a recording was rejected"; condition == nil ||
		!strings.Contains(condition.Message, want) {
		t.Errorf("condition %+v, want that it says %q", condition, want)
	}
	rig.sent.reset()
	if backfillStatus, _ = rig.again(t, tenant, stop); *backfillStatus.FoundMissing != 0 {
		t.Errorf("the next run found %d", *backfillStatus.FoundMissing)
	}
	if _, single := rig.sent.count(); single != 0 {
		t.Errorf("%d calls were asked for again", single)
	}
}

// TestLyingAPI asks an API that a Tenant named and that is not Exotel. However many records it lists, a run logs
// one line about them.
func TestLyingAPI(t *testing.T) {
	for name, tc := range map[string]struct {
		records     int
		wantStatus  metav1.ConditionStatus
		wantReason  string
		wantMessage string
		wantLine    string
	}{
		"more records than a page has": {2_000_000, metav1.ConditionFalse, v1alpha1.ReasonBackfillUnavailable,
			"more than 1000 calls", ""},
		"records that are not calls": {900, metav1.ConditionFalse, v1alpha1.ReasonBackfillIncomplete,
			"900 calls that Exotel listed could not be used", "calls=900"},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newSubject(t, exotelsim.Options{})
			page := `{"Metadata":{"NextPageUri":null},"Calls":[0` + strings.Repeat(",0", tc.records-1) + `]}`
			api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_,
					_ = w.Write([]byte(page))
			}))
			defer api.Close()
			tenant := rig.tenant(t, "acme", func(tenant *v1alpha1.Tenant) { tenant.Spec.Exotel.APIBaseURL = api.URL })
			rig.start(t)
			rig.until(t, tenant, tc.wantStatus, tc.wantReason)
			var live v1alpha1.Tenant
			if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(tenant), &live); err != nil {
				t.Fatal(err)
			}
			condition := apimeta.FindStatusCondition(live.Status.Conditions, v1alpha1.ConditionBackfillSucceeded)
			if !strings.Contains(condition.Message, tc.wantMessage) || len(condition.Message) > 1000 {
				t.Errorf("the message is %q, want %q in it", condition.Message, tc.wantMessage)
			}
			lines := strings.Count(rig.Logs.String(), "listed are left out")
			if want := min(len(tc.wantLine), 1); lines != want || !strings.Contains(rig.Logs.String(), tc.wantLine) {
				t.Errorf("%d lines about calls that are left out, want %d with %q:\n%.3000s", lines, want, tc.wantLine,
					rig.Logs.String())
			}
		})
	}
}
