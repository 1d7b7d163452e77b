package exotel

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseTime reads a time as Exotel writes it. A time without a zone is in loc. It returns zero for a text that is not a
// time, and for the placeholder at the epoch that stands for "not ended yet".
func ParseTime(s string, loc *time.Location) time.Time {
	t, _ := readTime(s, loc)
	return t
}

// readTime reports false for a text that is neither a time nor a placeholder.
func readTime(s string, loc *time.Location) (time.Time, bool) {
	if s == "" || strings.HasPrefix(s, "0000") || strings.HasPrefix(s, "0001") || isNA(s) {
		return time.Time{}, true
	}
	t, ok := readEpoch(s)
	if !ok {
		t, ok = readDateTime(s, loc)
	}
	year := t.Year()
	if !ok || year > 9999 { // JSON and databases cannot write it either
		return time.Time{}, false
	}
	if year <= 1970 {
		return time.Time{}, true
	}
	return t, true
}

// epochUnits are the units in which clients count from the epoch. The size of the number tells the unit: the seconds of
// the years 2001 to 2286 have ten digits before the point, and each further unit has three more.
var epochUnits = []struct {
	least float64
	unit  time.Duration
}{{1e9, time.Second}, {1e12, time.Millisecond}, {1e15, time.Microsecond}, {1e18, time.Nanosecond}}

// readEpoch reads a number of seconds, milliseconds, microseconds or nanoseconds since the epoch. 0 is the epoch.
func readEpoch(s string) (time.Time, bool) {
	if !isDecimal(s) {
		return time.Time{}, false
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n == 0 {
		return time.Unix(0, 0), err == nil
	}
	for _, u := range epochUnits {
		if n < u.least || n >= 10*u.least {
			continue
		}
		if whole, err := strconv.ParseInt(s, 10, 64); err == nil {
			perSecond := int64(time.Second / u.unit)
			return time.Unix(whole/perSecond, whole%perSecond*int64(u.unit)).UTC(), true
		}
		seconds, fraction := math.Modf(n / float64(time.Second/u.unit))
		return time.Unix(int64(seconds), int64(math.Round(fraction*1e6))*1e3).UTC(), true
	}
	return time.Time{}, false
}

// isDecimal reports whether a text is a number as JSON or a form writes it: 12, 12.5, 1.2e3. ParseFloat takes others:
// 0x1p-2, Inf, 1_000.
func isDecimal(s string) bool {
	if s == "" || (s[0] < '0' || '9' < s[0]) && s[0] != '.' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || '9' < c) && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return false
		}
	}
	return true
}

// isNA reports whether a text is one of the words for a time or duration that does not exist.
func isNA(s string) bool {
	return strings.EqualFold(s, "NA") || strings.EqualFold(s, "N/A") || strings.EqualFold(s, "None") || s == "-"
}

// unquote strips the double quotes in which Exotel puts the digits that a caller pressed, and in which clients put what
// they pass on.
func unquote(s string) string { return strings.Trim(s, `"`) }
