package exotel

import (
	"strconv"
	"strings"
)

// maxSeconds is longer than any call.
const maxSeconds = 7 * 24 * 3600

// Seconds reads a duration as Exotel writes it, in whole seconds. It returns 0 for a text that is not one.
func Seconds(s string) int {
	n, _ := readSeconds(s)
	return n
}

// readSeconds reads a duration that may be quoted, fractional or empty. Exotel sends seconds. Relays and customers'
// systems also write 72,5 and 00:01:12 and 1m 12s and PT1M12S. It reports false for a text that is neither a duration
// nor a placeholder, and for 01:12: no source says whether these are minutes and seconds.
func readSeconds(s string) (int, bool) {
	if whole, rest, ok := leadingNumber(s, 5); ok && rest == "" { // what Exotel sends of a call of up to a day
		return whole, true
	}
	if s = strings.TrimSpace(unquote(s)); s == "" || isNA(s) {
		return 0, true
	}
	n, ok := readNumber(s)
	switch {
	case ok:
	case strings.IndexByte(s, ':') > 0:
		n, ok = readClockDuration(s)
	default:
		n, ok = readUnits(s)
	}
	if !ok || !(n >= 0 && n <= maxSeconds) { // NaN is neither
		return 0, false
	}
	return int(n), true
}

// readNumber reads a decimal number. A comma is a decimal one if one or two digits follow it: three may be thousands.
func readNumber(s string) (float64, bool) {
	if whole, fraction, found := strings.Cut(s, ","); found && len(fraction) > 0 && len(fraction) <= 2 {
		s = whole + "." + fraction
	}
	if !isDecimal(s) {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

// readClockDuration reads hours:minutes:seconds.
func readClockDuration(s string) (seconds float64, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0, false
	}
	for i, part := range parts {
		n, rest, ok := leadingNumber(part, 3)
		if !ok || rest != "" || i > 0 && (len(part) != 2 || n >= 60) {
			return 0, false
		}
		seconds = 60*seconds + float64(n)
	}
	return seconds, true
}

// units are the seconds in each unit of a duration.
var units = map[string]float64{
	"h":            3600,
	"hr":           3600,
	"hrs":          3600,
	"hour":         3600,
	"hours":        3600,
	"m":            60,
	"min":          60,
	"mins":         60,
	"minute":       60,
	"minutes":      60,
	"s":            1,
	"sec":          1,
	"secs":         1,
	"second":       1,
	"seconds":      1,
	"ms":           1e-3,
	"msec":         1e-3,
	"msecs":        1e-3,
	"millisecond":  1e-3,
	"milliseconds": 1e-3,
}

// readUnits reads numbers with their units, the largest first: 12s, 1m 12s, 12 seconds, PT1M12S of ISO 8601.
func readUnits(s string) (seconds float64, ok bool) {
	s = strings.TrimPrefix(strings.ToLower(s), "pt")
	for previous := float64(maxSeconds); s != "" || !ok; ok = true {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789.,"))
		n, isNumber := readNumber(s[:digits])
		s = strings.TrimLeft(s[digits:], " ")
		letters := len(s) - len(strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz"))
		unit, known := units[s[:letters]]
		if !isNumber || !known || unit >= previous {
			return 0, false
		}
		previous = unit
		seconds += n * unit
		s = strings.TrimLeft(s[letters:], " ,")
	}
	return seconds, true
}
