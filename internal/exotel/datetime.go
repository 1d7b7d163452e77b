package exotel

import (
	"strings"
	"time"
)

// readDateTime reads a date with a time of day, which may have a zone. These are the spellings that Exotel's products
// send; relays, databases and programming languages write the others:
//
//	2006-01-02 15:04:05                StatusCallback, Passthru, Call Details [S]
//	2006-01-02 15:04:05+05:30          Voice v2 and v3 [N1]
//	2006-01-02T15:04:05.000Z           ExoML [N2], outbound call notifications [S3], these also without their zone
//	Mon, 2 Jan 2006 15:04:05 -0700     Created and RecordingAvailableBy of Passthru [P1], also without its zone
//	23/1/2006 15:04                    day first, if it cannot be the month
//	2006-01-02 3:04 PM +0530           AM and PM, and the month before a day that cannot be it, only with a zone
//
// A date alone, and a date whose day may be its month, are not read: nobody knows what they mean. Nor do AM, PM and a
// month that comes first: such a system has a zone of its own, and these times decide which events are stale.
func readDateTime(s string, loc *time.Location) (time.Time, bool) {
	colon := strings.IndexByte(s, ':')
	if colon < 1 {
		return readCompact(s, loc)
	}
	start := colon
	for start > 0 && isDigit(s[start-1]) {
		start--
	}
	if start < 1 {
		return time.Time{}, false // a time of day alone
	}
	clock, rest, ok := readClock(s[start:])
	if !ok {
		return time.Time{}, false
	}
	date, zone, ok := readDate(s[:start], rest)
	half, inRange := clock.inHalf(&zone)
	if !ok || !inRange || zone == "" && (half || date.monthFirst) {
		return time.Time{}, false
	}
	if loc, ok = readZone(zone, loc); !ok {
		return time.Time{}, false
	}
	t := time.Date(date.year, date.month, date.day, clock.hour, clock.minute, clock.second, clock.nanosecond, loc)
	return t, true
}

// readCompact reads 20060102150405, which is how Exotel names files, and ISO 8601 without separators.
func readCompact(s string, loc *time.Location) (time.Time, bool) {
	for _, layout := range []string{"20060102150405", "20060102T150405", "20060102T150405Z0700"} {
		if len(s) < len("20060102150405") {
			break
		}
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			_, offset := t.Zone()
			return t, -24*3600 < offset && offset < 24*3600
		}
	}
	return time.Time{}, false
}

// clock is a time of day.
type clock struct{ hour, minute, second, nanosecond int }

// readClock reads the time of day that begins a text, with seconds and their fraction or without them, and returns what
// follows it.
func readClock(s string) (c clock, rest string, ok bool) {
	if c.hour, s, ok = leadingNumber(s, 2); !ok || c.hour > 23 {
		return c, "", false
	}
	for _, into := range []*int{&c.minute, &c.second} {
		after, found := strings.CutPrefix(s, ":")
		if !found {
			return c, s, into == &c.second // the minute is needed
		}
		if *into, s, ok = leadingNumber(after, 2); !ok || *into > 59 {
			return c, "", false
		}
	}
	if len(s) > 1 && (s[0] == '.' || s[0] == ',') && isDigit(s[1]) {
		unit := int(time.Second)
		for s = s[1:]; s != "" && isDigit(s[0]); s = s[1:] {
			unit /= 10
			c.nanosecond += unit * int(s[0]-'0')
		}
	}
	return c, s, true
}

// inHalf takes AM or PM from the beginning of what follows a time of day, and reports whether there is one of them. ok
// is false if the hour has no half.
func (c *clock) inHalf(rest *string) (half, ok bool) {
	text := strings.TrimLeft(*rest, " ")
	if len(text) < 2 || text[1]|0x20 != 'm' || text[0]|0x20 != 'a' && text[0]|0x20 != 'p' ||
		len(text) > 2 && text[2] != ' ' {
		return false, true
	}
	if c.hour < 1 || c.hour > 12 {
		return true, false
	}
	c.hour %= 12
	if text[0]|0x20 == 'p' {
		c.hour += 12
	}
	*rest = strings.TrimLeft(text[2:], " ")
	return true, true
}

// calendarDate is a date.
type calendarDate struct {
	year  int
	month time.Month
	day   int
	// monthFirst is true if digits name the month before the day and the year.
	monthFirst bool
}

// readDate reads the date before a time of day. C and JavaScript write the year, or the zone and the year, after the
// time: it returns the zone.
func readDate(before, after string) (d calendarDate, zone string, ok bool) {
	zone = strings.TrimSpace(after)
	if d, ok = isoDate(before); ok {
		return d, zone, true
	}
	words, count := dateWords(before)
	if count == 2 { // Jan 2 15:04:05 2006, Jan 2 15:04:05 IST 2006
		at := len(zone) - len("2006")
		if at < 0 || at > 0 && zone[at-1] != ' ' {
			return d, "", false
		}
		words[2], count, zone = zone[at:], 3, strings.TrimSpace(zone[:at])
	}
	if count != 3 {
		return d, "", false
	}
	d, ok = dateOf(words)
	return d, zone, ok
}

// isoDate reads 2006-01-02 before a blank or T. Fast path for the dates that Exotel sends: dateWords reads them too.
func isoDate(s string) (d calendarDate, ok bool) {
	if len(s) != len("2006-01-02T") || s[4] != '-' || s[7] != '-' || s[10] != ' ' && s[10] != 'T' {
		return d, false
	}
	return d.withMonth(s[:4], s[5:7], s[8:10])
}

// dateWords separates the words of a date. The name of the day does not count, nor does the T before a time of day.
func dateWords(s string) (words [3]string, count int) {
	if last := len(s) - 1; s[last]|0x20 == 't' && last > 0 && isDigit(s[last-1]) {
		s = s[:last]
	}
	for s != "" {
		length := 0
		for length < len(s) && strings.IndexByte(" ,-/._", s[length]) < 0 {
			length++
		}
		word := s[:length]
		s = s[min(length+1, len(s)):]
		if word == "" || count == 0 && isDayName(word) {
			continue
		}
		if count == len(words) {
			return words, count + 1
		}
		words[count] = word
		count++
	}
	return words, count
}

// dateOf reads year, month and day in each order that the words themselves tell.
func dateOf(words [3]string) (d calendarDate, ok bool) {
	for i, w := range words[:2] {
		if d.month = monthNamed(w); d.month == 0 {
			continue
		}
		day := words[1-i]
		year := words[2]
		if len(words[0]) == len("2006") && i == 1 {
			day = words[2]
			year = words[0]
		}
		return d.with(year, day)
	}
	if len(words[0]) == len("2006") {
		return d.withMonth(words[0], words[1], words[2])
	}
	if words[0] == words[1] {
		return d.withMonth(words[2], words[1], words[0])
	}
	dayFirst, isDay := d.withMonth(words[2], words[1], words[0])
	monthFirst, isMonth := d.withMonth(words[2], words[0], words[1])
	if isDay {
		return dayFirst, !isMonth
	}
	monthFirst.monthFirst = true
	return monthFirst, isMonth
}

// withMonth is with, of a month in digits.
func (d calendarDate) withMonth(year, month, day string) (calendarDate, bool) {
	n, rest, ok := leadingNumber(month, 2)
	if !ok || rest != "" || n < 1 || n > 12 {
		return d, false
	}
	d.month = time.Month(n)
	return d.with(year, day)
}

// with adds the year, in four digits, and the day.
func (d calendarDate) with(year, day string) (calendarDate, bool) {
	var restOfYear, restOfDay string
	var isYear, isDay bool
	d.year, restOfYear, isYear = leadingNumber(year, 4)
	d.day, restOfDay, isDay = leadingNumber(day, 2)
	ok := isYear && isDay && len(year) == len("2006") && restOfYear == "" && restOfDay == ""
	return d, ok && d.exists()
}

// exists reports whether the month has the day.
func (d calendarDate) exists() bool {
	const inEveryMonth = 28
	return d.day > 0 && d.day <= inEveryMonth ||
		d.day <= 31 && time.Date(d.year, d.month, d.day, 0, 0, 0, 0, time.UTC).Day() == d.day
}

// monthNamed returns the month of that name, in English, long or short; 0 for another word.
func monthNamed(word string) time.Month {
	for month := time.January; month <= time.December; month++ {
		if name := month.String(); strings.EqualFold(word, name) || strings.EqualFold(word, name[:3]) ||
			month == time.September && strings.EqualFold(word, "Sept") {
			return month
		}
	}
	return 0
}

// isDayName reports whether a word is the name of a day, in English, long or short.
func isDayName(word string) bool {
	for weekday := time.Sunday; weekday <= time.Saturday; weekday++ {
		if name := weekday.String(); strings.EqualFold(word, name) || strings.EqualFold(word, name[:3]) {
			return true
		}
	}
	return false
}

// leadingNumber reads a number of at most so many digits that begins a text, and returns what follows it.
func leadingNumber(s string, digits int) (n int, rest string, ok bool) {
	length := 0
	for length < len(s) && length < digits && isDigit(s[length]) {
		n = 10*n + int(s[length]-'0')
		length++
	}
	return n, s[length:], length > 0 && (length == len(s) || !isDigit(s[length]))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// zoneNames are names of zones that stand for an offset, in seconds.
var zoneNames = map[string]int{"Z": 0, "GMT": 0, "UTC": 0, "IST": 5*3600 + 1800}

// readZone reads what follows a time of day: nothing, a name, an offset, or GMT+0530 (India Standard Time) as
// JavaScript writes it. In a query, a plus sign that is not escaped is a blank.
func readZone(s string, loc *time.Location) (*time.Location, bool) {
	if s = strings.TrimSpace(s); s == "" {
		return loc, true
	}
	if at := strings.Index(s, " ("); at > 0 && s[len(s)-1] == ')' {
		s = s[:at]
	}
	name := strings.ToUpper(s)
	if seconds, known := zoneNames[name]; known {
		return fixedZone(seconds), true
	}
	for _, prefix := range []string{"GMT", "UTC"} {
		if offset, found := strings.CutPrefix(name, prefix); found {
			name = strings.TrimLeft(offset, " ")
		}
	}
	return readOffset(name)
}

// readOffset reads +05:30, +0530 and +05, the former two also without their sign.
func readOffset(s string) (*time.Location, bool) {
	sign := 1
	signed := s != "" && (s[0] == '+' || s[0] == '-')
	if signed && s[0] == '-' {
		sign = -1
	}
	if signed {
		s = s[1:]
	}
	digits := strings.Replace(s, ":", "", 1)
	n, rest, ok := leadingNumber(digits, 4)
	if hours := len(s) == len("05"); hours && signed {
		n *= 100
	} else if len(digits) != len("0530") || len(s) != len(digits) && s[2] != ':' {
		return nil, false
	}
	if !ok || rest != "" || n/100 > 23 || n%100 > 59 {
		return nil, false
	}
	return fixedZone(sign * (n/100*3600 + n%100*60)), true
}

func fixedZone(seconds int) *time.Location {
	if seconds == 0 {
		return time.UTC
	}
	return time.FixedZone("", seconds)
}
