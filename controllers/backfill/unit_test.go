package backfill

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) *metav1.Time { return &metav1.Time{Time: noon.Add(d)} }

func withBackfill(interval, lookback time.Duration) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
	t.Spec.Exotel.Backfill = &v1alpha1.BackfillSpec{}
	if interval > 0 {
		t.Spec.Exotel.Backfill.Interval = ptr.To(metav1Duration(interval))
	}
	if lookback > 0 {
		t.Spec.Exotel.Backfill.Lookback = ptr.To(metav1Duration(lookback))
	}
	return t
}

func TestStart(t *testing.T) {
	for name, tc := range map[string]struct {
		lookback time.Duration
		status   v1alpha1.BackfillStatus
		want     time.Duration // before noon
	}{
		"the first time": {0, v1alpha1.BackfillStatus{}, defaultLookback},
		"as usual": {
			time.Hour,
			v1alpha1.BackfillStatus{WindowEnd: at(-15 * time.Minute)},
			time.Hour,
		},
		"after a gap": {
			time.Hour,
			v1alpha1.BackfillStatus{WindowEnd: at(-72 * time.Hour)},
			72*time.Hour + overlap,
		},
		"a lookback below the interval": {
			5 * time.Minute,
			v1alpha1.BackfillStatus{WindowEnd: at(-15 * time.Minute)},
			15*time.Minute + overlap,
		},
		"in the middle": {time.Hour, v1alpha1.BackfillStatus{
			WindowEnd:   at(-20 * time.Minute),
			PendingFrom: at(-20 * time.Minute),
		}, 20 * time.Minute},
		"in the middle, long ago": {
			time.Hour,
			v1alpha1.BackfillStatus{PendingFrom: at(-72 * time.Hour)},
			72 * time.Hour,
		},
		"suspended for longer than kept": {
			time.Hour,
			v1alpha1.BackfillStatus{WindowEnd: at(-400 * 24 * time.Hour)},
			noon.Sub(noon.AddDate(0, -6, 0)) - 2*time.Hour,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := noon.Sub(start(withBackfill(0, tc.lookback), tc.status, noon)); got != tc.want {
				t.Errorf("begins %s before now, want %s", got, tc.want)
			}
		})
	}
}

// TestDue verifies when the next run is due. The last run was at noon, and "next" in the status is when the following
// run was planned.
func TestDue(t *testing.T) {
	failedAt := func(generation int64) *metav1.Condition {
		return &metav1.Condition{Status: metav1.ConditionFalse, ObservedGeneration: generation}
	}
	ranAtNoon := remembered{status: v1alpha1.BackfillStatus{LastRunTime: at(0), NextRunTime: at(time.Hour)}}
	for name, tc := range map[string]struct {
		interval time.Duration
		m        remembered
		want     time.Time
	}{
		"never ran":                        {0, remembered{}, time.Time{}},
		"ran":                              {time.Hour, ranAtNoon, noon.Add(time.Hour)},
		"a shorter interval now":           {10 * time.Minute, ranAtNoon, noon.Add(10 * time.Minute)},
		"shorter than the platform allows": {time.Minute, ranAtNoon, noon.Add(5 * time.Minute)},
		"goes on": {time.Hour, remembered{status: v1alpha1.BackfillStatus{
			LastRunTime: at(0),
			NextRunTime: at(catchUp),
		}},
			noon.Add(catchUp)},
		"failed": {time.Hour, remembered{status: ranAtNoon.status, condition: failedAt(2)},
			noon.Add(time.Hour)},
		"failed with an old spec": {time.Hour, remembered{
			status:    v1alpha1.BackfillStatus{LastRunTime: at(0), NextRunTime: at(time.Hour)},
			condition: failedAt(1),
		},
			time.Time{}},
		"refused": {time.Hour, remembered{
			status:    v1alpha1.BackfillStatus{LastRunTime: at(0)},
			condition: failedAt(2),
		}, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			reconciler := &Reconciler{MinInterval: 5 * time.Minute}
			tenant := withBackfill(tc.interval, 0)
			if got := tc.m.due(tenant, reconciler.interval(tenant)); !got.Equal(tc.want) {
				t.Errorf("due at %s, want %s", got, tc.want)
			}
		})
	}
}

// TestWindows verifies that the windows cover the whole time without a gap, and that each is as short as Exotel
// requires.
func TestWindows(t *testing.T) {
	for name, tc := range map[string]struct {
		length time.Duration
		want   int
	}{
		"nothing":            {0, 0},
		"an hour":            {time.Hour, 1},
		"a day":              {24 * time.Hour, 1},
		"a day and a second": {24*time.Hour + time.Second, 2},
		"a month":            {720 * time.Hour, 30},
	} {
		t.Run(name, func(t *testing.T) {
			list := windows(noon, noon.Add(tc.length))
			at := noon
			for _, w := range list {
				if !w.from.Equal(at) || !w.to.After(w.from) || w.to.Sub(w.from) > slice {
					t.Errorf("window %v after %s", w, at)
				}
				at = w.to
			}
			if len(list) != tc.want || !at.Equal(noon.Add(tc.length)) {
				t.Errorf("%d windows up to %s, want %d", len(list), at, tc.want)
			}
		})
	}
}

// TestFilter verifies that a filter covers a window in which the clocks go back. In New York 1:30 came twice on 1
// November, as the clocks went back at 6:00 UTC.
func TestFilter(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	w := window{time.Date(2026, 11, 1, 5, 50, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 10, 0, 0, time.UTC)}
	for name, tc := range map[string]struct {
		loc  *time.Location
		want calldetails.Filter
	}{
		"no such clocks": {calldetails.IST, calldetails.Filter{CreatedFrom: w.from, CreatedTo: w.to}},
		"New York": {newYork, calldetails.Filter{
			CreatedFrom: w.from.Add(-time.Hour),
			CreatedTo:   w.to.Add(time.Hour),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.filter(tc.loc)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("filter (-want +got):\n%s", d)
			}
			const wall = "15:04:05"
			if from, to := got.CreatedFrom.In(tc.loc).Format(wall), got.CreatedTo.In(tc.loc).Format(wall); from >= to {
				t.Errorf("by the wall clock it ends at %s and begins at %s", to, from)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	for name, tc := range map[string]struct {
		owner owner
		phone string
		known bool
		want  bool
	}{
		"alone": {owner{mine: []string{"+918047491899"}}, "08000000000", false, true},
		"mine":  {owner{shared: true, mine: []string{"+918047491899"}}, "08047491899", false, true},
		"theirs": {owner{
			shared: true,
			mine:   []string{"+918047491899"},
		}, "08047491900", false, false},
		"nobody's": {owner{
			shared: true,
			mine:   []string{"+918047491899"},
		}, "08000000000", false, false},
		"nobody's, but it is known": {owner{shared: true}, "08000000000", true, true},
		"hidden": {owner{
			shared: true,
			mine:   []string{"+918047491899"},
		}, "0XXXXXX1899", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.owner.owns(&calldetails.Call{PhoneNumber: tc.phone}, tc.known); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestAccounts verifies that an account has one run at a time and that its pace outlives the run. Unused accounts are
// forgotten.
func TestAccounts(t *testing.T) {
	var a accounts
	first := a.take("acme1", time.Hour)
	if first == nil || a.take("acme1", time.Hour) != nil {
		t.Fatal("two runs have one account")
	}
	if a.take("globex1", -1) == nil {
		t.Error("another account is not free")
	}
	a.release("acme1")
	if again := a.take("acme1", time.Hour); again != first {
		t.Error("the account's pace started from the beginning")
	}
	a.release("acme1")
	a.release("globex1")
	a.take("third", -1)
	if len(a.used) != 1 {
		t.Errorf("%d accounts are held, one is used", len(a.used))
	}
}
