package exotel

import (
	"strconv"
	"strings"
	"time"
)

// timeLayouts are the spellings of times. Those without a zone are in the account's.
var timeLayouts = []string{
	"2006-01-02 15:04:05",             // StatusCallback, Passthru, Call Details [S]
	"2006-01-02 15:04:05Z07:00",       // Voice v2 and v3: 2022-11-03 22:54:40+05:30 [N1]
	time.RFC3339Nano,                  // ExoML [N2], outbound call notifications [S3]
	"2006-01-02T15:04:05",             // outbound call notifications without their zone
	"Mon, 2 Jan 2006 15:04:05",        // Created and RecordingAvailableBy of Passthru [P1]
	"Mon, 2 Jan 2006 15:04:05 -0700",  // the same with a zone
	"Mon, 2 Jan 2006 15:04:05 Z07:00", // the same with a zone
	"2006-01-02T15:04:05-0700",        // ISO 8601 without the colon
	"2006-01-02 15:04:05 -0700",       // the same with a blank
}

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
	s = withOffset(s)
	named := s[0] > '9' // begins with the name of a day
	for _, layout := range timeLayouts {
		if named != (layout[0] > '9') {
			continue
		}
		t, err := time.ParseInLocation(layout, s, loc)
		if err != nil {
			continue
		}
		_, offset := t.Zone()
		if t.Year() <= 1970 {
			return time.Time{}, true
		}
		if t.Year() > 9999 || offset <= -24*3600 || offset >= 24*3600 {
			return time.Time{}, false // JSON and databases cannot write it either
		}
		return t, true
	}
	return time.Time{}, false
}

// zoneNames are names of zones that stand for an offset.
var zoneNames = map[string]string{"GMT": "+0000", "UTC": "+0000", "IST": "+0530"}

// withOffset spells the zone after a time as timeLayouts do. It may be a name. In a query, a plus sign that is not
// escaped is a blank.
func withOffset(s string) string {
	at := strings.LastIndexByte(s, ' ')
	if at < len("2006-01-02T15:04:05") || at+1 == len(s) {
		return s
	}
	zone := s[at+1:]
	if offset, known := zoneNames[zone]; known {
		zone = offset
	} else if '0' <= zone[0] && zone[0] <= '9' {
		zone = "+" + zone
	}
	if s[0] <= '9' && strings.Contains(zone, ":") {
		return strings.TrimRight(s[:at], " ") + zone
	}
	return strings.TrimRight(s[:at], " ") + " " + zone
}

// isNA reports whether a text is one of the words for a time or duration that does not exist.
func isNA(s string) bool {
	return strings.EqualFold(s, "NA") || strings.EqualFold(s, "N/A") || strings.EqualFold(s, "None") || s == "-"
}

// maxSeconds is longer than any call.
const maxSeconds = 7 * 24 * 3600

// Seconds reads a duration as Exotel writes it, in whole seconds. It returns 0 for a text that is not one.
func Seconds(s string) int {
	n, _ := readSeconds(s)
	return n
}

// readSeconds reads a duration that may be quoted, fractional or empty. It reports false for a text that is neither a
// duration nor a placeholder.
func readSeconds(s string) (int, bool) {
	s = unquote(s)
	if s == "" || isNA(s) {
		return 0, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= maxSeconds) { // NaN is neither
		return 0, false
	}
	return int(f), true
}

// unquote strips the double quotes in which Exotel puts the digits that a caller pressed, and in which clients put what
// they pass on.
func unquote(s string) string { return strings.Trim(s, `"`) }
