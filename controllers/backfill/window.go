package backfill

import (
	"time"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
)

const (
	// slice is how long one listing's window is: far below the month that Exotel allows, so that few pages are lost with a listing.
	slice = 24 * time.Hour
	// overlap with the window of the run before, where that is older than the lookback: Exotel lists calls some time after their end.
	overlap = 15 * time.Minute
	// keptMonths is how long Exotel keeps calls.
	keptMonths = 6
)

// start is where a run begins: the lookback, or further back where the runs before left a gap.
func start(t *v1alpha1.Tenant, s v1alpha1.BackfillStatus, now time.Time) time.Time {
	from := now.Add(-lookback(t))
	switch {
	case s.PendingFrom != nil:
		from = s.PendingFrom.Time
	case s.WindowEnd != nil && s.WindowEnd.Add(-overlap).Before(from):
		from = s.WindowEnd.Add(-overlap)
	}
	// Some room for what a filter adds, and for the time until it is asked.
	if oldest := now.AddDate(0, -keptMonths, 0).Add(2 * time.Hour); from.Before(oldest) {
		from = oldest
	}
	return from.Truncate(time.Second)
}

type window struct{ from, to time.Time }

// windows cuts a time into listings. They share the second at which they meet, since both ends belong to each.
func windows(from, to time.Time) (list []window) {
	for from.Before(to) {
		end := from.Add(slice)
		if end.After(to) {
			end = to
		}
		list = append(list, window{from, end})
		from = end
	}
	return list
}

// filter asks for a window. Exotel reads wall clocks: where those were put back or forward nearby, an hour more on both sides
// makes up for the one that there is twice or never.
func (w window) filter(loc *time.Location) calldetails.Filter {
	_, before := w.from.Add(-2 * time.Hour).In(loc).Zone()
	_, after := w.to.Add(2 * time.Hour).In(loc).Zone()
	if before != after {
		w.from = w.from.Add(-time.Hour)
		w.to = w.to.Add(time.Hour)
	}
	return calldetails.Filter{CreatedFrom: w.from, CreatedTo: w.to}
}
