package calldetails

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
)

// Exotel's bounds of one question.
const (
	maxPageSize = 100
	maxSIDs     = 100
	maxNumbers  = 5
	maxWindow   = 31 * 24 * time.Hour
	maxMonths   = 6
)

// Filter chooses calls. Zero fields choose all.
type Filter struct {
	// CreatedFrom and CreatedTo bound when a call was created, to the second and both inclusive: at most 31 days apart,
	// and at most six months ago. Without both, Exotel looks at the last 31 days; one alone is completed to a window of
	// 31 days that ends now at the latest.
	CreatedFrom, CreatedTo time.Time
	// SIDs are at most 100; Exotel recommends 20. They are looked for within the window too.
	SIDs []string
	// State and Direction of the call. Calls that go on are never listed.
	State     exotel.State
	Direction string
	// PhoneNumbers are at most 5 ExoPhones.
	PhoneNumbers []string
	// PageSize is 1 to 100; 0 means 100.
	PageSize int
	// NewestFirst turns the order round. Oldest first is safer: calls that are added meanwhile come at the end.
	NewestFirst bool
}

// check says why Exotel would refuse the filter.
func (f Filter) check(now time.Time) (why, remedy string) {
	switch {
	case f.PageSize < 0 || f.PageSize > maxPageSize:
		return fmt.Sprintf("the page size %d is out of Exotel's range",
			f.PageSize), fmt.Sprintf("use 1 to %d", maxPageSize)
	case len(f.SIDs) > maxSIDs:
		return fmt.Sprintf("%d ids are too many", len(f.SIDs)), fmt.Sprintf("ask for at most %d at once", maxSIDs)
	case slices.ContainsFunc(f.SIDs, func(s string) bool { return !sidPattern.MatchString(s) }):
		return "one of the ids is not a call's id", "use the CallSids that Exotel sent"
	case len(f.PhoneNumbers) > maxNumbers:
		return fmt.Sprintf("%d phone numbers are too many", len(f.PhoneNumbers)), fmt.Sprintf(
			"ask for at most %d at once", maxNumbers,
		)
	case slices.ContainsFunc(f.PhoneNumbers, func(s string) bool { return s == "" || strings.Contains(s, ",") }):
		return "one of the phone numbers is empty or holds a comma", "give each number by itself"
	}
	return f.checkWindow(now)
}

func (f Filter) checkWindow(now time.Time) (why, remedy string) {
	from, to := f.window(now)
	switch {
	case from.IsZero():
		return "", ""
	case to.Before(from):
		return "the window ends before it begins", "give CreatedFrom before CreatedTo, and neither in the future"
	case to.Sub(from) > maxWindow:
		return fmt.Sprintf("the window is %s long", to.Sub(from).Round(time.Hour)), "ask in windows of at most 31 days"
	case from.Before(now.AddDate(0, -maxMonths, 0)):
		return "the window begins more than six months ago", "Exotel keeps calls for six months: begin later"
	}
	return "", ""
}

// window is zero if no bound was given.
func (f Filter) window(now time.Time) (from, to time.Time) {
	from = f.CreatedFrom
	to = f.CreatedTo
	switch {
	case from.IsZero() && to.IsZero():
	case to.IsZero():
		to = now
		if end := from.Add(maxWindow); end.Before(to) {
			to = end
		}
	case from.IsZero():
		from = to.Add(-maxWindow)
	}
	return from, to
}

// query spells the filter. Times are wall clock in the account's zone, without a zone: in any other the window would be
// off by hours.
func (f Filter) query(now time.Time, loc *time.Location) string {
	const layout = "2006-01-02 15:04:05"
	values := url.Values{"PageSize": {strconv.Itoa(maxPageSize)}, "SortBy": {"DateCreated:asc"}}
	if f.PageSize != 0 {
		values.Set("PageSize", strconv.Itoa(f.PageSize))
	}
	if f.NewestFirst {
		values.Set("SortBy", "DateCreated:desc")
	}
	if from, to := f.window(now); !from.IsZero() {
		values.Set("DateCreated", "gte:"+from.In(loc).Format(layout)+";lte:"+to.In(loc).Format(layout))
	}
	for name, value := range map[string]string{
		"Sid":         strings.Join(f.SIDs, ","),
		"PhoneNumber": strings.Join(f.PhoneNumbers, ","),
		"Status":      string(f.State),
		"Direction":   f.Direction,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	// Exotel's examples escape a space as %20; a plus is not sure to be read as one by every parser in its way.
	return strings.ReplaceAll(values.Encode(), "+", "%20")
}
