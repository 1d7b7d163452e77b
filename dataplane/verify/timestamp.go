package verify

import (
	"strconv"
	"strings"
	"time"
)

// checkTimestamp returns why a time of signing, in seconds since 1970, is refused; empty if it is not. Either edge of the
// tolerance is still good.
func checkTimestamp(stamp string, tolerance time.Duration, now time.Time) string {
	// Digits alone: ParseInt would take a sign too, and twelve of them are a time that no duration overflows on.
	if stamp == "" || len(stamp) > 12 || strings.Trim(stamp, "0123456789") != "" {
		return ReasonBadTimestamp
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ReasonBadTimestamp
	}
	// In whole seconds, as the timestamp is: a half must not put a good one beyond the edge.
	if age := now.Unix() - seconds; tolerance <= 0 || max(age, -age) > int64(tolerance/time.Second) {
		return ReasonStaleTimestamp
	}
	return ""
}
