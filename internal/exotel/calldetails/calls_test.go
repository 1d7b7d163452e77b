package calldetails

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// collect lists to the end.
func collect(t *testing.T, c *Client, f Filter) (sids []string, failures []error) {
	t.Helper()
	for call, err := range c.Calls(t.Context(), f) {
		if err != nil {
			failures = append(failures, err)
			continue
		}
		sids = append(sids, call.SID)
	}
	return sids, failures
}

// TestCalls lists seven calls through each quirk. One call is live, and one is 40 days old.
func TestCalls(t *testing.T) {
	upward := []string{"c1", "c2", "c3", "c4", "c5", "c6"}
	downward := []string{"c6", "c5", "c4", "c3", "c2", "c1"}
	for name, tc := range map[string]struct {
		filter       Filter
		quirks       exotelsim.DetailQuirks
		want         []string
		wantRequests int
	}{
		"one page":            {Filter{}, exotelsim.DetailQuirks{}, upward, 1},
		"newest first":        {Filter{NewestFirst: true}, exotelsim.DetailQuirks{}, downward, 1},
		"pages":               {Filter{PageSize: 2}, exotelsim.DetailQuirks{}, upward, 3},
		"pages, newest first": {Filter{PageSize: 4, NewestFirst: true}, exotelsim.DetailQuirks{}, downward, 2},
		"ends with null":      {Filter{PageSize: 3}, exotelsim.DetailQuirks{NullNext: true}, upward, 2},
		"numbers":             {Filter{}, exotelsim.DetailQuirks{Swapped: true}, upward, 1},
		"unescaped pages": {Filter{
			PageSize:    2,
			CreatedFrom: today,
		}, exotelsim.DetailQuirks{RawNext: true}, upward, 3},
		"a page fails twice": {Filter{PageSize: 2}, exotelsim.DetailQuirks{Status: 502, Failures: 2}, upward, 5},
		"a page breaks off":  {Filter{PageSize: 2}, exotelsim.DetailQuirks{Truncations: 1}, upward, 4},
		"a page has to wait": {Filter{PageSize: 2}, exotelsim.DetailQuirks{
			TooMany:    1,
			RetryAfter: time.Second,
		}, upward, 4},
		"a window": {Filter{
			CreatedFrom: today.Add(time.Minute),
			CreatedTo:   today.Add(3 * time.Minute),
		}, exotelsim.DetailQuirks{}, []string{"c2", "c3", "c4"}, 1},
		"from": {
			Filter{CreatedFrom: today.Add(4 * time.Minute)},
			exotelsim.DetailQuirks{},
			[]string{"c5", "c6"},
			1,
		},
		"until": {
			Filter{CreatedTo: today.Add(time.Minute)},
			exotelsim.DetailQuirks{},
			[]string{"c1", "c2"},
			1,
		},
		"long ago": {
			Filter{CreatedFrom: today.AddDate(0, 0, -41)},
			exotelsim.DetailQuirks{},
			[]string{"old"},
			1,
		},
		"ids": {
			Filter{SIDs: []string{"c3", "c5", "c9"}},
			exotelsim.DetailQuirks{},
			[]string{"c3", "c5"},
			1,
		},
		"a state":     {Filter{State: "no-answer"}, exotelsim.DetailQuirks{}, []string{"c2"}, 1},
		"a direction": {Filter{Direction: "inbound"}, exotelsim.DetailQuirks{}, []string{"c4"}, 1},
		"an ExoPhone": {
			Filter{PhoneNumbers: []string{"+918055555555"}},
			exotelsim.DetailQuirks{},
			[]string{"c5"},
			1,
		},
		"in another zone": {
			Filter{CreatedFrom: today.UTC().Add(4 * time.Minute)},
			exotelsim.DetailQuirks{},
			[]string{"c5", "c6"},
			1,
		},
		"nothing in that time": {Filter{CreatedFrom: today.Add(time.Hour)}, exotelsim.DetailQuirks{}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := against(t)
			placeSeven(server)
			server.SetAllDetails(tc.quirks)
			got, failures := collect(t, client, tc.filter)
			if d := cmp.Diff(tc.want, got); d != "" || failures != nil {
				t.Errorf("%v, calls (-want +got):\n%s", failures, d)
			}
			if n := server.Requests(listPath); n != tc.wantRequests {
				t.Errorf("%d requests, want %d", n, tc.wantRequests)
			}
		})
	}
}

func placeSeven(s *exotelsim.Server) {
	s.Place("acme1", placed("old", today.AddDate(0, 0, -40)))
	for i := range 7 {
		placedCall := placed(fmt.Sprint("c", i+1), today.Add(time.Duration(i)*time.Minute))
		switch i {
		case 1:
			placedCall.Status = "no-answer"
		case 3:
			placedCall.Direction = "inbound"
		case 4:
			placedCall.PhoneNumber = "08055555555"
		case 6:
			placedCall.Status = "in-progress"
		}
		s.Place("acme1", placedCall)
	}
}

func TestCallsHoldWhatASingleCallHolds(t *testing.T) {
	client, server := against(t)
	server.Place("acme1", placed("c1", today))
	for got, err := range client.Calls(t.Context(), Filter{}) {
		if d := cmp.Diff(wantCall("c1", today), got, withoutRaw); d != "" || err != nil {
			t.Errorf("%v, call (-want +got):\n%s", err, d)
		}
	}
}

// TestCallsStop verifies that the calls before a failure are returned, that the failure ends the sequence, and that a
// consumer can end it.
func TestCallsStop(t *testing.T) {
	for name, tc := range map[string]struct {
		quirks       exotelsim.DetailQuirks
		maxPages     int
		want         []string
		wantErr      Error
		wantPart     string
		wantRequests int
	}{
		"another host": {exotelsim.DetailQuirks{NextHost: "evil.example"}, 0, nil, Error{
			Kind:   ErrUnreadable,
			Status: 200,
		}, "on another host", 1},
		"in a circle": {exotelsim.DetailQuirks{SamePage: true}, 0, nil, Error{
			Kind:   ErrUnreadable,
			Status: 200,
		}, "in a circle", 1},
		"too many pages": {
			exotelsim.DetailQuirks{},
			2,
			[]string{"c1", "c2", "c3", "c4"},
			Error{Kind: errRefused},
			"ask for a shorter window",
			2,
		},
		"down": {exotelsim.DetailQuirks{Status: 500}, 0, nil, Error{
			Kind:   ErrUnavailable,
			Status: 500,
		}, "page 1", 3},
		"refused": {exotelsim.DetailQuirks{Status: 401}, 0, nil, Error{
			Kind:   ErrUnauthorized,
			Status: 401,
		}, "check the region", 1},
		"not found": {exotelsim.DetailQuirks{NotFound: 1}, 0, nil, Error{Kind: ErrUnauthorized, Status: 404},
			"check the region (accounts in Mumbai use api.in.exotel.com, in Singapore api.exotel.com; this is ", 1},
		"a page of HTML": {exotelsim.DetailQuirks{HTML: true}, 0, nil, Error{
			Kind:   ErrUnreadable,
			Status: 200,
		}, "a page or XML", 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := against(t, func(c *Config) { c.MaxPages = tc.maxPages })
			placeSeven(server)
			server.SetAllDetails(tc.quirks)
			got, failures := collect(t, client, Filter{PageSize: 2})
			if d := cmp.Diff(tc.want, got); d != "" || len(failures) != 1 {
				t.Fatalf("%v, calls (-want +got):\n%s", failures, d)
			}
			checkError(t, failures[0], tc.wantErr)
			if !strings.Contains(failures[0].Error(), tc.wantPart) {
				t.Errorf("%v\ndoes not say %s", failures[0], tc.wantPart)
			}
			if n := server.Requests(listPath); n != tc.wantRequests {
				t.Errorf("%d requests, want %d", n, tc.wantRequests)
			}
		})
	}
}

func TestConsumerStops(t *testing.T) {
	client, server := against(t)
	placeSeven(server)
	seq := client.Calls(t.Context(), Filter{PageSize: 2})
	for range 2 { // a sequence can be ranged over again
		for call, err := range seq {
			if call.SID != "c1" || err != nil {
				t.Errorf("got %s, %v", call.SID, err)
			}
			break
		}
	}
	if n := server.Requests(listPath); n != 2 {
		t.Errorf("%d pages were asked for, want 2", n)
	}
}

// TestNextPage feeds addresses of next pages that the stand-in does not give.
func TestNextPage(t *testing.T) {
	for name, tc := range map[string]struct {
		next     string // HOST stands for the server's
		wantPart string // "" if the page is followed
	}{
		"relative":             {listPath + "?After=x", ""},
		"without .json":        {strings.TrimSuffix(listPath, ".json") + "?After=x", ""},
		"absolute, same host":  {"http://HOST" + listPath + "?After=x", ""},
		"only a query":         {"?After=x", "not of this account's calls"},
		"another host":         {"http://evil.example" + listPath + "?After=x", "on another host"},
		"without a scheme":     {"//evil.example" + listPath + "?After=x", "on another host"},
		"another scheme":       {"https://HOST" + listPath + "?After=x", "on another host"},
		"another port":         {"http://127.0.0.1:1" + listPath + "?After=x", "on another host"},
		"userinfo":             {"http://a:b@HOST" + listPath + "?After=x", "on another host"},
		"host in the userinfo": {"http://HOST@evil.example" + listPath, "on another host"},
		"another account":      {"/v1/Accounts/acme2/Calls.json?After=x", "not of this account's calls"},
		"another resource":     {"/v1/Accounts/acme1/Users.json", "not of this account's calls"},
		"up":                   {listPath + "/../../../x", "not of this account's calls"},
		"a single call":        {"/v1/Accounts/acme1/Calls/c1.json", "not of this account's calls"},
		"no address":           {"http://[::1/", "cannot be read"},
		"no scheme":            {"mailto:x", "on another host"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(nil)
			defer server.Close()
			next := strings.ReplaceAll(tc.next, "HOST", strings.TrimPrefix(server.URL, "http://"))
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.URL.RequestURI())
				if len(asked) > 1 {
					next = ""
				}
				_, _ = fmt.Fprintf(w, `{"Metadata":{"NextPageUri":%q},"Calls":[{"Sid":"c%d"}]}`, next, len(asked))
			})
			got, failures := collect(t, newClient(t, config(t, server.URL)), Filter{})
			if tc.wantPart == "" {
				if d := cmp.Diff([]string{"c1", "c2"}, got); d != "" || failures != nil ||
					asked[1] != listPath+"?After=x" {
					t.Errorf("asked %v, %v, calls (-want +got):\n%s", asked, failures, d)
				}
				return
			}
			if len(asked) != 1 || len(failures) != 1 || !errors.Is(failures[0], ErrUnreadable) ||
				!strings.Contains(failures[0].Error(), tc.wantPart) {
				t.Errorf("asked %v, %v; want %s", asked, failures, tc.wantPart)
			}
		})
	}
}

// TestBrokenRecord verifies that an unreadable record does not hide the other records of its page.
func TestBrokenRecord(t *testing.T) {
	client := answering(
		t,
		200,
		`{"Metadata":{},"Calls":[{"Sid":"c1"},{"Sid":null,"From":"09876543210"},7,null,{"Sid":"a/b"},{"Sid":"c2"}]}`,
	)
	got, failures := collect(t, client, Filter{})
	if d := cmp.Diff([]string{"c1", "c2"}, got); d != "" || len(failures) != 4 {
		t.Fatalf("%d failures, calls (-want +got):\n%s", len(failures), d)
	}
	for _, err := range failures {
		checkError(t, err, Error{Kind: ErrUnreadable})
	}
}

func TestFilterChecks(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		filter   Filter
		wantPart string
	}{
		"page too large":     {Filter{PageSize: 101}, "use 1 to 100"},
		"page below zero":    {Filter{PageSize: -1}, "use 1 to 100"},
		"too many ids":       {Filter{SIDs: make([]string, 101)}, "at most 100 at once"},
		"no id":              {Filter{SIDs: []string{"c1,c2"}}, "not a call's id"},
		"too many numbers":   {Filter{PhoneNumbers: make([]string, 6)}, "at most 5 at once"},
		"two numbers in one": {Filter{PhoneNumbers: []string{"1,2"}}, "each number by itself"},
		"no number":          {Filter{PhoneNumbers: []string{""}}, "each number by itself"},
		"turned round":       {Filter{CreatedFrom: now, CreatedTo: now.Add(-time.Hour)}, "ends before it begins"},
		"in the future":      {Filter{CreatedFrom: now.Add(time.Hour)}, "ends before it begins"},
		"too long":           {Filter{CreatedFrom: now.AddDate(0, 0, -32), CreatedTo: now}, "at most 31 days"},
		"too old":            {Filter{CreatedFrom: now.AddDate(0, -7, 0)}, "for six months"},
		"too old an end":     {Filter{CreatedTo: now.AddDate(0, -6, 0)}, "for six months"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := against(t)
			_, failures := collect(t, client, tc.filter)
			if len(failures) != 1 {
				t.Fatalf("failures %v", failures)
			}
			checkError(t, failures[0], Error{Kind: errRefused})
			if !strings.Contains(failures[0].Error(), tc.wantPart) || server.Requests(listPath) != 0 {
				t.Errorf("%v after %d requests, want %s", failures[0], server.Requests(listPath), tc.wantPart)
			}
		})
	}
}

func TestQuery(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	from := time.Date(2026, 3, 1, 18, 30, 0, 999, time.UTC)
	for name, tc := range map[string]struct {
		filter Filter
		zone   *time.Location
		want   string
	}{
		"nothing": {Filter{}, IST, "PageSize=100&SortBy=DateCreated%3Aasc"},
		"everything": {Filter{
			CreatedFrom:  from,
			CreatedTo:    from.Add(time.Hour),
			SIDs:         []string{"c1", "c2"},
			State:        "busy",
			Direction:    "inbound",
			PhoneNumbers: []string{"+911", "+912"},
			PageSize:     7,
			NewestFirst:  true,
		}, IST,
			"DateCreated=gte%3A2026-03-02%2000%3A00%3A00%3Blte%3A2026-03-02%2001%3A00%3A00&Direction=inbound" +
				"&PageSize=7&PhoneNumber=%2B911%2C%2B912" +
				"&Sid=c1%2Cc2&SortBy=DateCreated%3Adesc&Status=busy"},
		"from": {Filter{CreatedFrom: from}, IST,
			"DateCreated=gte%3A2026-03-02%2000%3A00%3A00%3Blte%3A2026-03-31%2017%3A30%3A00&PageSize=100" +
				"&SortBy=DateCreated%3Aasc"},
		"another zone": {Filter{CreatedTo: now}, time.FixedZone("SGT", 8*3600),
			"DateCreated=gte%3A2026-02-28%2020%3A00%3A00%3Blte%3A2026-03-31%2020%3A00%3A00&PageSize=100" +
				"&SortBy=DateCreated%3Aasc"},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.filter.query(now, tc.zone)
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if _, err := url.ParseQuery(got); err != nil {
				t.Error(err)
			}
		})
	}
}
