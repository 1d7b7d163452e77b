package exotel

import (
	"testing"
	"time"
)

// TestReadTime reads every spelling of a time whose meaning is certain, and leaves the others.
func TestReadTime(t *testing.T) {
	at := func(hour, minute, second, nanosecond int) time.Time {
		return time.Date(2022, 2, 23, hour, minute, second, nanosecond, ist)
	}
	utc := func(hour, minute, second, nanosecond int) time.Time {
		return time.Date(2022, 2, 23, hour, minute, second, nanosecond, time.UTC)
	}
	for s, want := range map[string]time.Time{
		// As Exotel's products write them.
		"2022-02-23 12:37:25":             at(12, 37, 25, 0),
		"Wed, 23 Feb 2022 12:37:25":       at(12, 37, 25, 0),
		"Wed, 2 Feb 2022 12:37:25":        time.Date(2022, 2, 2, 12, 37, 25, 0, ist),
		"Wed, 23 Feb 2022 12:37:25 +0530": at(12, 37, 25, 0),
		"2022-02-23 22:54:40+05:30":       at(22, 54, 40, 0),
		"2022-02-23T10:30:00.529Z":        utc(10, 30, 0, 529e6),
		"2022-02-23T10:30:00":             at(10, 30, 0, 0),
		"2022-02-23T10:30:00+0530":        at(10, 30, 0, 0),
		// A plus sign that a query does not escape, names of zones, and a blank before the offset.
		"2022-02-23 22:54:40 05:30":     at(22, 54, 40, 0),
		"2022-02-23T22:54:40 05:30":     at(22, 54, 40, 0),
		"2022-02-23 22:54:40 +05:30":    at(22, 54, 40, 0),
		"2022-02-23 22:54:40 0530":      at(22, 54, 40, 0),
		"2022-02-23 22:54:40.5 UTC":     utc(22, 54, 40, 5e8),
		"Wed, 2 Feb 2022 12:37:25 0530": time.Date(2022, 2, 2, 12, 37, 25, 0, ist),
		"Wed, 23 Feb 2022 12:37:25 GMT": utc(12, 37, 25, 0),
		"Wed, 23 Feb 2022 12:37:25 IST": at(12, 37, 25, 0),
		// Placeholders.
		"1970-01-01 05:30:00":  {},
		"0000-00-00 00:00:00":  {},
		"NA":                   {},
		"":                     {},
		"0001-01-01T00:00:00Z": {},
		"0":                    {},
		"0.0":                  {},
		"01/01/1970 05:30:00":  {},
		// Zones.
		"2022-02-23 12:37:25+0530":                                at(12, 37, 25, 0),
		"2022-02-23 12:37:25+05":                                  at(12, 7, 25, 0).Add(time.Hour),
		"2022-02-23 12:37:25 Z":                                   utc(12, 37, 25, 0),
		"2022-02-23t12:37:25z":                                    utc(12, 37, 25, 0),
		"2022-02-23 12:37:25 -08:00":                              utc(20, 37, 25, 0),
		"2022-02-23 12:37:25 ist":                                 at(12, 37, 25, 0),
		"Wed Feb 23 2022 12:37:25 GMT+0530 (India Standard Time)": at(12, 37, 25, 0),
		"Wed Feb 23 2022 12:37:25 GMT 0530":                       at(12, 37, 25, 0),
		"2022-02-23 12:37:25 UTC+05:30":                           at(12, 37, 25, 0),
		// Clocks.
		"2022-02-23 12:37":              at(12, 37, 0, 0),
		"2022-02-23T12:37Z":             utc(12, 37, 0, 0),
		"2022-02-23 9:07:05":            at(9, 7, 5, 0),
		"2022-02-23 12:37:25.123":       at(12, 37, 25, 123e6),
		"2022-02-23 12:37:25,123456":    at(12, 37, 25, 123456e3),
		"2022-02-23 12:37:25.123+05:30": at(12, 37, 25, 123e6),
		"2022-02-23 02:37:25 PM IST":    at(14, 37, 25, 0),
		"2022-02-23 2:37 pm +05:30":     at(14, 37, 0, 0),
		"2022-02-23 2:37:25AM Z":        utc(2, 37, 25, 0),
		"2022-02-23 12:00:00 AM +0530":  at(0, 0, 0, 0),
		"2022-02-23 12:00:00 PM +0530":  at(12, 0, 0, 0),
		"02/23/2022, 2:37:25 PM GMT":    utc(14, 37, 25, 0),
		"02/23/2022 12:37:25 IST":       at(12, 37, 25, 0),
		// Dates.
		"2022/02/23 12:37:25":          at(12, 37, 25, 0),
		"2022-2-23 12:37:25":           at(12, 37, 25, 0),
		"23/02/2022 12:37:25":          at(12, 37, 25, 0),
		"23-02-2022 12:37:25":          at(12, 37, 25, 0),
		"23.02.2022 12:37:25":          at(12, 37, 25, 0),
		"02/02/2022 12:37:25":          time.Date(2022, 2, 2, 12, 37, 25, 0, ist),
		"23 Feb 2022 12:37:25":         at(12, 37, 25, 0),
		"23-Feb-2022 12:37:25":         at(12, 37, 25, 0),
		"2022-Feb-23 12:37:25":         at(12, 37, 25, 0),
		"Feb 23, 2022 12:37:25":        at(12, 37, 25, 0),
		"Wed Feb 23 12:37:25 2022":     at(12, 37, 25, 0),
		"Wed Feb 23 12:37:25 IST 2022": at(12, 37, 25, 0),
		"20220223123725":               at(12, 37, 25, 0),
		"20220223T123725Z":             utc(12, 37, 25, 0),
		// Since the epoch.
		"1645600045":          utc(7, 7, 25, 0),
		"1645600045.529":      utc(7, 7, 25, 529e6),
		"1.645600045e9":       utc(7, 7, 25, 0),
		"1645600045529":       utc(7, 7, 25, 529e6),
		"1645600045529.0":     utc(7, 7, 25, 529e6),
		"1645600045529001":    utc(7, 7, 25, 529001e3),
		"1645600045529001002": utc(7, 7, 25, 529001002),
	} {
		if got, ok := readTime(s, ist); !ok || !got.Equal(want) {
			t.Errorf("%q is read as %s, %v; want %s", s, got, ok, want)
		}
	}
	for _, s := range []string{"yesterday", "23/02/2022", "2024-02-30 00:00:00", "10000-01-01 00:00:00", "12:37:25",
		"2022-11-03 22:54:40 PM", "2022-11-03 22:54:40 05:30 05:30", "Wed, 23 Feb 2022 12:37:25 NOWHERE",
		"02/03/2022 12:37:25", "03-02-2022 12:37:25", "31/31/2022 12:37:25", "23/02/22 12:37:25", "2022-02-23",
		"20220223", "2022-13-01 12:37:25", "2022-02-23 24:00:00", "2022-02-23 12:60:00", "2022-02-23 12:37:61",
		"2022-02-23 00:37:25 AM", "2022-02-23 12", "2022-02-23 12:", "2022-02-23 :37", "12", "999999999",
		"12345678901",
		"-1645600045", "0x62161d9d", "1e99", "Inf", "2022-02-23 12:37:25 +24:00", "2022-02-23 12:37:25 +05:99",
		"2022-02-23 12:37:25 5:30", "2022-02-23 12:37:25 EST", "Feb 23 12:37:25", "Feb 2022 12:37:25",
		"20220230123725", "2022-02-29 12:37:25", "2100-02-29 12:37:25", "29 Feb 2022 12:37:25", "2022-04-31 12:37:25",
		"2022-02-23 12:37:25 (IST)", "Mon 12:37:25", "T12:37:25", "2022 12:37:25", "1-2-3-2022 12:37:25",
		"2022-02-23 1:2:3:4", "2022-02-23 02:37:25 PM", "2022-02-23 2:37 pm ", "2022-02-23 2:37:25AM",
		"02/23/2022, 2:37:25 PM", "02/23/2022 12:37:25", "Wednesday, February 23, 2022 2:37:25 PM",
		"2022-02-23 12:37:25 UTC+5"} {
		if got, ok := readTime(s, ist); ok || !got.IsZero() {
			t.Errorf("%q is read as %s", s, got)
		}
	}
}

// TestReadSkippedTime reads a time of day that a zone skips: clocks in Beirut went from 00:00 to 01:00. The field would
// be lost otherwise.
func TestReadSkippedTime(t *testing.T) {
	beirut, err := time.LoadLocation("Asia/Beirut")
	if err != nil {
		t.Fatal(err)
	}
	want := time.Date(2022, 3, 26, 22, 0, 0, 0, time.UTC)
	for _, s := range []string{"2022-03-27 00:30:00", "27/03/2022 00:30:00"} {
		if got, ok := readTime(s, beirut); !ok || got.Sub(want).Abs() > time.Hour {
			t.Errorf("%q is read as %s, %v", s, got, ok)
		}
	}
}

// TestReadSeconds reads every spelling of a duration whose meaning is certain, and leaves the others.
func TestReadSeconds(t *testing.T) {
	for s, want := range map[string]int{
		"":                     0,
		"NA":                   0,
		"n/a":                  0,
		"-":                    0,
		"None":                 0,
		"0":                    0,
		"72":                   72,
		`"72"`:                 72,
		`" 72 "`:               72,
		"72.0":                 72,
		"4.39":                 4,
		".5":                   0,
		"7e1":                  70,
		"72,5":                 72,
		"72,05":                72,
		"00:01:12":             72,
		"0:01:12":              72,
		"00:00:00":             0,
		"1:40:00":              6000,
		"12s":                  12,
		"12 s":                 12,
		"12S":                  12,
		"12 sec":               12,
		"12 seconds":           12,
		"1m12s":                72,
		"1m 12s":               72,
		"1 min 12 sec":         72,
		"1 minute, 12 seconds": 72,
		"1h":                   3600,
		"1h0m12.5s":            3612,
		"12m":                  720,
		"12500ms":              12,
		"PT1M12S":              72,
		"pt72s":                72,
		"PT1H":                 3600,
		"72,5s":                72,
		"168:00:00":            maxSeconds,
	} {
		if got, ok := readSeconds(s); !ok || got != want {
			t.Errorf("%q is read as %d, %v; want %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"soon", "-1", "+", "1e99", "Inf", "NaN", "0x10", "1_000", "1,234", "1,2,3", "604801",
		"1:2", "01:12", "1:12", "00:00", "100:00", "00:01:12.9", "00:01:12,5", "1e1:00:00", "00:1e:12", "0001:00:00",
		"1:60", "1:2:3", "00:60:00", "00:00:00:01", "1:", ":12", "1.5:12", "12x", "s", "12s1m", "1m1m", "PT", "P1D",
		"12s 30",
		"12 o'clock", "1::12", "1:-2", "99999999h"} {
		if got, ok := readSeconds(s); ok || got != 0 {
			t.Errorf("%q is read as %d", s, got)
		}
	}
}

// TestStateSpellings reads a status in every case and with every separator.
func TestStateSpellings(t *testing.T) {
	for s, want := range map[string]State{
		"no-answer":           StateNoAnswer,
		"No Answer":           StateNoAnswer,
		"NO_ANSWER":           StateNoAnswer,
		"noAnswer":            StateNoAnswer,
		"no--answer":          StateNoAnswer,
		"Missed Call":         StateNoAnswer,
		"RINGING_TIMEOUT":     StateNoAnswer,
		"ringing-timeout":     StateNoAnswer,
		"notAnswered":         StateNoAnswer,
		"NO_USER_RESPONSE":    StateNoAnswer,
		"In Progress":         StateInProgress,
		"INPROGRESS":          StateInProgress,
		"Answered":            StateInProgress,
		"USER-BUSY":           StateBusy,
		"user busy":           StateBusy,
		"Rejected":            StateBusy,
		"CALL_REJECTED":       StateBusy,
		"client-hangup":       StateCanceled,
		"Originator Cancel":   StateCanceled,
		"agent_canceled":      StateCanceled,
		"customer_unanswered": StateNoAnswer,
		"agent_unanswered":    StateNoAnswer,
		"customer_no_dial":    StateFailed,
		"toLegUnanswered":     StateNoAnswer,
		// These say that a call has ended, or less, and not how.
		"hangup":          StateUnknown,
		"normal-clearing": StateUnknown,
		"voicemail":       StateUnknown,
		"call-attempt":    StateUnknown,
		"":                StateUnknown,
		"busyy":           StateUnknown,
	} {
		if got := StateOf(s, ""); got != want {
			t.Errorf("%q is read as %q, want %q", s, got, want)
		}
	}
	for s, want := range map[string]string{
		"Outbound API":  "outbound-api",
		"OUTBOUND_DIAL": "outbound-dial",
		"outboundApi":   "outbound-api",
		"Incoming":      "inbound",
		"out":           "",
	} {
		if got := DirectionOf(s); got != want {
			t.Errorf("direction %q is read as %q, want %q", s, got, want)
		}
	}
}
