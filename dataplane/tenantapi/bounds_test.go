package tenantapi_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestBadParameters verifies that each parameter out of its bounds is answered 400 with its name, and never reaches
// PostgreSQL.
func TestBadParameters(t *testing.T) {
	rig := newRig(t)
	lists := []string{"/api/calls", "/api/recordings", "/api/streams", "/api/audit", "/api/users"}
	timed := lists[:4]
	for name, tc := range map[string]struct {
		paths []string
		query string
		field string
	}{
		"limit of nothing":         {lists, "limit=0", "limit"},
		"limit below":              {lists, "limit=-1", "limit"},
		"limit above":              {lists, "limit=201", "limit"},
		"limit, no number":         {lists, "limit=all", "limit"},
		"limit, beyond int64":      {lists, "limit=99999999999999999999", "limit"},
		"limit, part of one":       {lists, "limit=1.5", "limit"},
		"cursor made up":           {lists, "cursor=abc", "cursor"},
		"cursor too long":          {lists, "cursor=" + strings.Repeat("A", 600), "cursor"},
		"cursor with NUL":          {lists, "cursor=MXwA", "cursor"},
		"cursor of another list":   {[]string{"/api/audit", "/api/streams"}, "cursor=MXxjMQ", "cursor"},
		"since, no time":           {timed, "since=yesterday", "since"},
		"since, a date":            {timed, "since=2026-01-31", "since"},
		"until, no zone":           {timed, "until=2026-01-31T10:00:00", "until"},
		"until before since":       {timed, "since=2026-01-31T10:00:00Z&until=2026-01-31T09:00:00Z", "until"},
		"until is since":           {timed, "since=2026-01-31T10:00:00Z&until=2026-01-31T10:00:00Z", "until"},
		"unknown":                  {lists, "tenant=globex/sales", "tenant"},
		"state unknown":            {[]string{"/api/calls", "/api/recordings"}, "state=leased", "state"},
		"direction unknown":        {[]string{"/api/calls"}, "direction=sideways", "direction"},
		"from with NUL":            {[]string{"/api/calls"}, "from=%00", "from"},
		"from, no UTF-8":           {[]string{"/api/calls"}, "from=%ff", "from"},
		"from too long":            {[]string{"/api/calls"}, "from=" + strings.Repeat("1", 129), "from"},
		"to with a line break":     {[]string{"/api/calls"}, "to=%0a1", "to"},
		"callSid with a quote":     {[]string{"/api/recordings"}, "callSid=a%27", "callSid"},
		"callSid too long":         {[]string{"/api/recordings"}, "callSid=" + strings.Repeat("a", 65), "callSid"},
		"callSid with NUL":         {[]string{"/api/streams"}, "callSid=%00", "callSid"},
		"callSid, no UTF-8":        {[]string{"/api/streams"}, "callSid=%ff", "callSid"},
		"callSid, far too long":    {[]string{"/api/streams"}, "callSid=" + strings.Repeat("a", 129), "callSid"},
		"live, neither yes nor no": {[]string{"/api/streams"}, "live=maybe", "live"},
		"action unknown":           {[]string{"/api/audit"}, "action=everything", "action"},
		"outcome unknown":          {[]string{"/api/audit"}, "outcome=maybe", "outcome"},
		"actor is not an id":       {[]string{"/api/audit"}, "actor=jane", "actor"},
		"path: callSid":            {[]string{"/api/calls/a.b"}, "", "callSid"},
		"path: callSid too long":   {[]string{"/api/calls/" + strings.Repeat("a", 65)}, "", "callSid"},
		"path: callSid with NUL":   {[]string{"/api/calls/%00"}, "", "callSid"},
		"path: id too short":       {[]string{"/api/recordings/00", "/api/recordings/00/download"}, "", "id"},
		"path: no id of a stream": {
			[]string{"/api/streams/00", "/api/streams/close", "/api/streams/00000000-0000-4000-8000-00000000000A"},
			"",
			"id",
		},
		"path: id in capitals":     {[]string{"/api/recordings/00AA00AA00AA00AA"}, "", "id"},
		"path: id with more to it": {[]string{"/api/recordings/00aa00aa00aa00aa0"}, "", "id"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range tc.paths {
				answer := rig.ask("GET", path+"?"+tc.query, bearer(acme, "admin"), "")
				if answer.Status != 400 || answer.Code() != "validation" || !hasField(answer.Body, tc.field) {
					t.Errorf("%s: %d %s", path, answer.Status, answer.Body)
				}
			}
		})
	}
}

// hasField tells whether a problem names the field.
func hasField(body []byte, field string) bool {
	var p struct{ Errors []struct{ Path string } }
	_ = json.Unmarshal(body, &p)
	for _, e := range p.Errors {
		if e.Path == field {
			return true
		}
	}
	return false
}

// TestExtremesAreNoFaults verifies that unusual values within their bounds are answered 200.
func TestExtremesAreNoFaults(t *testing.T) {
	rig := newRig(t)
	for _, path := range []string{"/api/calls", "/api/recordings", "/api/audit"} {
		for _, query := range []string{"since=0000-01-01T00:00:00Z", "until=9999-12-31T23:59:59.999999999Z",
			"since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59Z",
			"since=1969-12-31T23:59:59%2B14:00", "limit=200", "limit=1", "cursor=", "cursor=MHwx",
			"cursor=MjUzNDAyMzAwNzk5OTk5OTk5fDk"} {
			if answer := rig.ask("GET", path+"?"+query, bearer(acme, "admin"), ""); answer.Status != 200 {
				t.Errorf("%s?%s: %d %s", path, query, answer.Status, answer.Body)
			}
		}
	}
	for _, query := range []string{"since=0000-01-01T00:00:00Z", "until=9999-12-31T23:59:59.999999999Z",
		"limit=200", "cursor=", "live=",
		"cursor=MHwwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDA",
		"cursor=MjUzNDAyMzAwNzk5OTk5OTk5fGZmZmZmZmZmLWZmZmYtNGZmZi04ZmZmLWZmZmZmZmZmZmZmZg"} {
		if answer := rig.ask("GET", "/api/streams?"+query, bearer(acme, "admin"), ""); answer.Status != 200 {
			t.Errorf("/api/streams?%s: %d %s", query, answer.Status, answer.Body)
		}
	}
	if answer := rig.ask(
		"GET", "/api/audit?cursor=MHw5MjIzMzcyMDM2ODU0Nzc1ODA3", bearer(acme, "admin"), "",
	); answer.Status != 200 {
		t.Errorf("the greatest id: %d %s", answer.Status, answer.Body)
	}
}
