package exotelsim

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const acme = "/v1/Accounts/acme1/Calls"

// base is the first placed call's time: 10:00 in India.
var base = time.Date(2026, 3, 1, 4, 30, 0, 0, time.UTC)

func placed(sid string, created time.Time, change ...func(*PlacedCall)) PlacedCall {
	placedCall := PlacedCall{
		Call: Call{
			SID:          sid,
			From:         "09876543210",
			To:           "09123456789",
			Started:      created,
			Ended:        created.Add(77 * time.Second),
			RecordingURL: "https://recordings.exotel.com/exotelrecordings/acme1/" + sid + ".mp3",
		},
		PhoneNumber:         "08044444890",
		Price:               "1.500",
		ConversationSeconds: 8,
	}
	for _, f := range change {
		f(&placedCall)
	}
	return placedCall
}

// atNoon is a server whose clock stands two hours after base.
func atNoon() Options { return Options{Now: func() time.Time { return base.Add(2 * time.Hour) }} }

const wantSingle = `{"Call":{"Sid":"c1","ParentCallSid":null,"DateCreated":"2026-03-01 10:00:00",` +
	`"DateUpdated":"2026-03-01 10:01:17",` +
	`"AccountSid":"acme1","To":"09123456789","From":"09876543210","PhoneNumberSid":"08044444890","Status":"completed",` +
	`"StartTime":"2026-03-01 10:00:00","EndTime":"2026-03-01 10:01:17","Duration":"77","Price":"1.500",` +
	`"Direction":"outbound-api",` +
	`"AnsweredBy":null,"ForwardedFrom":null,"CallerName":null,"Uri":"/v1/Accounts/acme1/Calls.json/c1",` +
	`"RecordingUrl":"https://recordings.exotel.com/exotelrecordings/acme1/c1.mp3"`

const wantDetails = `,"Details":{"ConversationDuration":8,"Leg1Status":"completed","Leg2Status":"completed",` +
	`"Legs":[{"Leg":{"Id":1,"OnCallDuration":77}},{"Leg":{"Id":2,"OnCallDuration":8}}]}`

func TestSingle(t *testing.T) {
	noEnd := func(c *PlacedCall) {
		c.Ended = time.Time{}
		c.Status = "in-progress"
		c.RecordingURL = ""
	}
	for name, tc := range map[string]struct {
		call       PlacedCall
		quirks     DetailQuirks
		path       string
		wantStatus int
		want       string // the whole body, or a part if it begins with "..."
	}{
		"plain": {placed("c1", base), DetailQuirks{}, acme + "/c1.json", 200, wantSingle + "}}"},
		"with details": {
			placed("c1", base),
			DetailQuirks{},
			acme + "/c1.json?details=true",
			200,
			wantSingle + wantDetails + "}}",
		},
		"details=false": {placed("c1", base), DetailQuirks{}, acme + "/c1.json?details=false", 200, wantSingle + "}}"},
		"going on": {
			placed("c1", base, noEnd),
			DetailQuirks{},
			acme + "/c1.json",
			200,
			`..."EndTime":null,"Duration":null,"Price":null,`,
		},
		"no recording": {placed("c1", base, noEnd), DetailQuirks{}, acme + "/c1.json", 200, `..."RecordingUrl":null}}`},
		"epoch": {
			placed("c1", base, noEnd),
			DetailQuirks{EpochEnd: true},
			acme + "/c1.json",
			200,
			`..."EndTime":"1970-01-01 05:30:00",`,
		},
		"numbers": {placed("c1", base), DetailQuirks{Swapped: true}, acme + "/c1.json?details=true", 200,
			`..."Duration":77,"Price":1.500,`},
		"numbers in details": {
			placed("c1", base),
			DetailQuirks{Swapped: true},
			acme + "/c1.json?details=true",
			200,
			`..."ConversationDuration":"8"`,
		},
		"XML": {
			placed("c1", base),
			DetailQuirks{},
			acme + "/c1",
			200,
			"...<TwilioResponse><Call><Sid>c1</Sid><ParentCallSid></ParentCallSid>",
		},
		"XML with legs": {
			placed("c1", base),
			DetailQuirks{},
			acme + "/c1?details=true",
			200,
			"...<Legs><Leg><Id>1</Id><OnCallDuration>77</OnCallDuration></Leg>",
		},
		"unknown": {placed("c2", base), DetailQuirks{}, acme + "/c1.json", 404, notFound},
		"unknown in XML": {
			placed("c2", base),
			DetailQuirks{},
			acme + "/c1",
			404,
			"...<TwilioResponse><RestException><Status>404</Status>",
		},
		"another account": {placed("c1", base), DetailQuirks{}, "/v1/Accounts/acme2/Calls/c1.json", 404, notFound},
		"no resource":     {placed("c1", base), DetailQuirks{}, "/v1/Accounts/acme1/Sms.json", 404, notFound},
		"below a call":    {placed("c1", base), DetailQuirks{}, acme + "/c1/Legs.json", 404, notFound},
		"no id":           {placed("c1", base), DetailQuirks{}, acme + "/", 404, "...<Status>404</Status>"},
		"validity": {
			placed("c1", base),
			DetailQuirks{},
			acme + "/c1.json?RecordingUrlValidity=60",
			200,
			wantSingle + "}}",
		},
		"validity too long": {
			placed("c1", base),
			DetailQuirks{},
			acme + "/c1.json?RecordingUrlValidity=61",
			400,
			`..."Status":400`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, atNoon())
			server.Place("acme1", tc.call)
			server.SetAllDetails(tc.quirks)
			got := get(t, server, tc.path)
			body := strings.TrimSpace(string(got.body))
			part, isPart := strings.CutPrefix(tc.want, "...")
			if got.status != tc.wantStatus || !isPart && body != tc.want || isPart && !strings.Contains(body, part) {
				t.Errorf("%d %s\nwant %d %s", got.status, body, tc.wantStatus, tc.want)
			}
			checkFormat(t, tc.path, got)
		})
	}
}

const notFound = `{"RestException":{"Status":404,"Message":"The requested resource does not exist","Code":404}}`

// checkFormat tells whether an answer is of the type that its path asked for.
func checkFormat(t *testing.T, path string, got answer) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	if strings.HasSuffix(path, ".json") {
		if got.header.Get("Content-Type") != "application/json" || !json.Valid(got.body) {
			t.Errorf("%s is not JSON: %s", got.header.Get("Content-Type"), got.body)
		}
		return
	}
	var any struct {
		XMLName xml.Name `xml:"TwilioResponse"`
	}
	if err := xml.Unmarshal(got.body, &any); err != nil || got.header.Get("Content-Type") != "application/xml" {
		t.Errorf("%s is not XML: %v", got.header.Get("Content-Type"), err)
	}
}

// TestDetailFaults lists the answers to question after question.
func TestDetailFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		quirks    DetailQuirks
		want      []int
		wantAfter string
		wantBody  string
	}{
		"none":          {DetailQuirks{}, []int{200, 200}, "", ""},
		"not found yet": {DetailQuirks{NotFound: 2}, []int{404, 404, 200}, "", notFound},
		"too many": {
			DetailQuirks{TooMany: 1},
			[]int{429, 200},
			"30",
			`{"RestException":{"Status":429,"Message":"Rate limit exceeded","Code":429}}`,
		},
		"too many, 2 s":     {DetailQuirks{TooMany: 1, RetryAfter: 2 * time.Second}, []int{429, 200}, "2", ""},
		"too many, no time": {DetailQuirks{TooMany: 1, RetryAfter: -1}, []int{429, 200}, "", ""},
		"a status stays": {
			DetailQuirks{Status: 503},
			[]int{503, 503, 503},
			"",
			`{"RestException":{"Status":503,"Message":"Service Unavailable","Code":503}}`,
		},
		"fails twice": {DetailQuirks{Status: 500, Failures: 2}, []int{500, 500, 200}, "", ""},
		"in its own words": {DetailQuirks{
			Status:  403,
			Message: "not KYC compliant",
		}, []int{403}, "", `{"RestException":{"Status":403,"Message":"not KYC compliant","Code":403}}`},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, atNoon())
			server.Place("acme1", placed("c1", base))
			server.SetDetails(acme+"/c1.json", tc.quirks)
			var got []int
			for i := range tc.want {
				answer := get(t, server, acme+"/c1.json")
				got = append(got, answer.status)
				if i == 0 &&
					(answer.header.Get("Retry-After") != tc.wantAfter ||
						tc.wantBody != "" && strings.TrimSpace(string(answer.body)) != tc.wantBody) {
					t.Errorf(
						"Retry-After %q, body %s; want %q, %s",
						answer.header.Get("Retry-After"),
						answer.body,
						tc.wantAfter,
						tc.wantBody,
					)
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("statuses (-want +got):\n%s", d)
			}
			if n := server.Requests(acme + "/c1.json"); n != len(tc.want) {
				t.Errorf("%d requests counted, want %d", n, len(tc.want))
			}
			if s := get(t, server, acme+".json").status; s != 200 {
				t.Errorf("another question answered %d", s)
			}
		})
	}
}

func TestDetailBodies(t *testing.T) {
	server := start(t, atNoon())
	server.SetDetails(acme+".json", DetailQuirks{Truncations: 1})
	if got := get(t, server, acme+".json"); !errors.Is(got.err, io.ErrUnexpectedEOF) {
		t.Errorf("%q ended with %v, want it cut", got.body, got.err)
	}
	if got := get(t, server, acme+".json"); got.err != nil || !json.Valid(got.body) {
		t.Errorf("%q ended with %v, want it whole", got.body, got.err)
	}
	server.SetDetails(acme+".json", DetailQuirks{HTML: true})
	if got := get(t, server, acme+".json"); got.status != 200 || got.header.Get("Content-Type") != "text/html" {
		t.Errorf("%d %s, want a page", got.status, got.header.Get("Content-Type"))
	}
	server.SetDetails(acme+".json", DetailQuirks{Delay: 200 * time.Millisecond})
	begun := time.Now()
	if got := get(t, server, acme+".json"); got.status != 200 || time.Since(begun) < 200*time.Millisecond {
		t.Errorf("%d after %s, want 200 after 200 ms", got.status, time.Since(begun))
	}
	if got := get(t, server, acme+".json", method(http.MethodPost)); got.status != 405 {
		t.Errorf("POST answered %d", got.status)
	}
}

// page of a listing, read with types of its own.
type listed struct {
	Metadata struct {
		Total, PageSize           int
		FirstPageUri, PrevPageUri string
		NextPageUri               *string
	}
	Calls         []struct{ Sid string }
	RestException *struct{ Message string }
}

func listPage(t *testing.T, server *Server, path string) (sids []string, l listed) {
	t.Helper()
	got := get(t, server, path)
	if err := json.Unmarshal(got.body, &l); err != nil || (got.status == 200) != (l.RestException == nil) {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	if l.RestException != nil {
		return []string{fmt.Sprint(got.status)}, l
	}
	for _, c := range l.Calls {
		sids = append(sids, c.Sid)
	}
	return sids, l
}

// TestFilters asks about five calls: c1 to c4 a minute apart, and old, 40 days before.
func TestFilters(t *testing.T) {
	server := start(t, atNoon())
	server.Place("acme1",
		placed("old", base.AddDate(0, 0, -40)),
		placed("c1", base),
		placed("c2", base.Add(time.Minute+500*time.Millisecond), func(c *PlacedCall) {
			c.Status = "no-answer"
			c.Price = ""
			c.Ended = time.Time{}
		}),
		placed("c3", base.Add(2*time.Minute), func(c *PlacedCall) {
			c.Direction = "inbound"
			c.PhoneNumber = "08055555555"
			c.From = "sip:bob"
		}),
		placed("c4", base.Add(3*time.Minute), func(c *PlacedCall) {
			c.Ended = c.Started.Add(10 * time.Second)
			c.Price = "0.25"
		}),
		placed("ringing", base, func(c *PlacedCall) { c.Status = "ringing" }),
		placed("talking", base, func(c *PlacedCall) { c.Status = "in-progress" }),
		placed("waiting", base, func(c *PlacedCall) { c.Status = "queued" }))
	bad := []string{"400"}
	for name, tc := range map[string]struct {
		query url.Values
		want  []string
	}{
		"nothing":      {nil, []string{"c4", "c3", "c2", "c1"}},
		"newest first": {url.Values{"SortBy": {"DateCreated:desc"}}, []string{"c4", "c3", "c2", "c1"}},
		"oldest first": {url.Values{"SortBy": {"DateCreated:asc"}}, []string{"c1", "c2", "c3", "c4"}},
		"other order":  {url.Values{"SortBy": {"Price:asc"}}, bad},
		"a window": {
			url.Values{"DateCreated": {"gte:2026-03-01 10:01:00;lte:2026-03-01 10:02:00"}},
			[]string{"c3", "c2"},
		},
		"a window in UTC": {url.Values{"DateCreated": {"gte:2026-03-01 04:29:00;lte:2026-03-01 04:35:00"}}, nil},
		"from":            {url.Values{"DateCreated": {"gte:2026-03-01 10:02:00"}}, []string{"c4", "c3"}},
		"until":           {url.Values{"DateCreated": {"lte:2026-03-01 10:00:00"}}, []string{"c1"}},
		"a month ago": {
			url.Values{"DateCreated": {"gte:2026-01-01 00:00:00;lte:2026-01-31 23:59:59"}},
			[]string{"old"},
		},
		"too long":       {url.Values{"DateCreated": {"gte:2026-01-01 00:00:00;lte:2026-02-02 00:00:00"}}, bad},
		"too old":        {url.Values{"DateCreated": {"gte:2025-08-31 00:00:00;lte:2025-09-02 00:00:00"}}, bad},
		"other operator": {url.Values{"DateCreated": {"eq:2026-03-01 10:02:00"}}, bad},
		"no time":        {url.Values{"DateCreated": {"gte:yesterday"}}, bad},
		"ISO time":       {url.Values{"DateCreated": {"gte:2026-03-01T10:02:00Z"}}, bad},
		"ids":            {url.Values{"Sid": {"c1,c3,nobody"}}, []string{"c3", "c1"}},
		"an old id":      {url.Values{"Sid": {"old"}}, nil},
		"an old id, dated": {url.Values{
			"Sid":         {"old"},
			"DateCreated": {"gte:2026-01-15 00:00:00;lte:2026-01-31 23:59:59"},
		}, []string{"old"}},
		"too many ids":     {url.Values{"Sid": {strings.Repeat("c1,", 100) + "c1"}}, bad},
		"a status":         {url.Values{"Status": {"no-answer"}}, []string{"c2"}},
		"a status ongoing": {url.Values{"Status": {"in-progress"}}, nil},
		"a direction":      {url.Values{"Direction": {"inbound"}}, []string{"c3"}},
		"an ExoPhone":      {url.Values{"PhoneNumber": {"+918055555555"}}, []string{"c3"}},
		"to":               {url.Values{"To": {"+919123456789"}, "Status": {"no-answer"}}, []string{"c2"}},
		"from a number":    {url.Values{"From": {"+911111111111,sip:bob"}}, []string{"c3"}},
		"too many numbers": {url.Values{"To": {"1,2,3,4,5,6"}}, bad},
		"a duration":       {url.Values{"Duration": {"eq:10s"}}, []string{"c4"}},
		"durations":        {url.Values{"Duration": {"gte:10s;lte:77s"}}, []string{"c4", "c3", "c1"}},
		"no duration":      {url.Values{"Duration": {"long"}}, bad},
		"prices":           {url.Values{"Price": {"gte:0.10;lte:1.0"}}, []string{"c4"}},
		"smallest page":    {url.Values{"PageSize": {"1"}}, []string{"c4"}},
		"largest page":     {url.Values{"PageSize": {"100"}}, []string{"c4", "c3", "c2", "c1"}},
		"no page":          {url.Values{"PageSize": {"0"}}, bad},
		"page too large":   {url.Values{"PageSize": {"101"}}, bad},
		"no cursor":        {url.Values{"After": {"!"}}, bad},
		"unknown cursor":   {url.Values{"After": {"bm9ib2R5"}}, bad},
		"two cursors":      {url.Values{"After": {"YzE"}, "Before": {"YzI"}}, bad},
		"validity":         {url.Values{"RecordingUrlValidity": {"4"}}, bad},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := listPage(t, server, acme+".json?"+tc.query.Encode())
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("calls (-want +got):\n%s", d)
			}
		})
	}
	if got, _ := listPage(
		t, server, acme+".json?DateCreated=gte:2026-03-01%2010:01:00;lte:2026-03-01%2010:02:00",
	); got[0] != "400" {
		t.Errorf("a bare semicolon is answered with %v", got)
	}
}

// TestPages walks seven calls in pages of three, forward and back, while an eighth comes in.
func TestPages(t *testing.T) {
	for name, tc := range map[string]struct {
		order                string
		wantThere, wantAgain [][]string
	}{
		// A call that is added at the front of an order appears on no later page and shifts no page.
		"newest first": {
			"desc",
			[][]string{{"c7", "c6", "c5"}, {"c4", "c3", "c2"}, {"c1"}},
			[][]string{{"c4", "c3", "c2"}, {"c7", "c6", "c5"}, {"c8"}},
		},
		"oldest first": {
			"asc",
			[][]string{{"c1", "c2", "c3"}, {"c4", "c5", "c6"}, {"c7", "c8"}},
			[][]string{{"c4", "c5", "c6"}, {"c1", "c2", "c3"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, atNoon())
			for i := range 7 { // two of each second
				server.Place("acme1", placed(fmt.Sprint("c", i+1), base.Add(time.Duration(i/2)*time.Second)))
			}
			var there, again [][]string
			first := acme + ".json?PageSize=3&SortBy=DateCreated:" + tc.order
			next := first
			prev := ""
			for next != "" {
				sids, listed := listPage(t, server, next)
				there = append(there, sids)
				server.Place("acme1", placed("c8", base.Add(time.Minute)))
				if listed.Metadata.PageSize != 3 || listed.Metadata.Total < 7 {
					t.Errorf("metadata %+v", listed.Metadata)
				}
				if fromFirst, _ := listPage(t, server, listed.Metadata.FirstPageUri); len(fromFirst) != 3 {
					t.Errorf("the first page is %v", fromFirst)
				}
				next = *listed.Metadata.NextPageUri
				prev = listed.Metadata.PrevPageUri
			}
			for prev != "" {
				sids, listed := listPage(t, server, prev)
				again = append(again, sids)
				prev = listed.Metadata.PrevPageUri
			}
			if d := cmp.Diff([][][]string{tc.wantThere, tc.wantAgain}, [][][]string{there, again}); d != "" {
				t.Errorf("pages there and back (-want +got):\n%s", d)
			}
		})
	}
}

func TestPageQuirks(t *testing.T) {
	path := acme + ".json?PageSize=1&DateCreated=gte%3A2026-03-01+00%3A00%3A00"
	for name, tc := range map[string]struct {
		quirks DetailQuirks
		calls  int
		want   string
	}{
		"the end":         {DetailQuirks{}, 1, ""},
		"the end is null": {DetailQuirks{NullNext: true}, 1, "null"},
		"relative": {
			DetailQuirks{},
			2,
			acme + ".json?After=YzI&DateCreated=gte%3A2026-03-01+00%3A00%3A00&PageSize=1",
		},
		"another host": {
			DetailQuirks{NextHost: "evil.example"},
			2,
			"http://evil.example" + acme + ".json?After=YzI&DateCreated=gte%3A2026-03-01+00%3A00%3A00&PageSize=1",
		},
		"unescaped": {
			DetailQuirks{RawNext: true},
			2,
			acme + ".json?After=YzI&DateCreated=gte:2026-03-01 00:00:00&PageSize=1",
		},
		"always this page": {DetailQuirks{SamePage: true}, 1, path},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, atNoon())
			for i := range tc.calls {
				server.Place("acme1", placed(fmt.Sprint("c", i+1), base.Add(time.Duration(i)*time.Second)))
			}
			server.SetAllDetails(tc.quirks)
			_, listed := listPage(t, server, path)
			got := "null"
			if listed.Metadata.NextPageUri != nil {
				got = *listed.Metadata.NextPageUri
			}
			if got != tc.want {
				t.Errorf("next page %s, want %s", got, tc.want)
			}
		})
	}
}

func TestListingInXML(t *testing.T) {
	server := start(t, atNoon())
	server.Place("acme1", placed("c1", base), placed("c2", base))
	got := get(t, server, acme+"?PageSize=1")
	checkFormat(t, acme, got)
	var x struct {
		Next string   `xml:"Metadata>NextPageUri"`
		Sids []string `xml:"Calls>Call>Sid"`
	}
	if err := xml.Unmarshal(got.body, &x); err != nil || len(x.Sids) != 1 || x.Sids[0] != "c2" ||
		x.Next != acme+"?After=YzI&PageSize=1" {
		t.Errorf("%+v, %v from %s", x, err, got.body)
	}
}

func TestZoneAndDefaults(t *testing.T) {
	singapore := time.FixedZone("SGT", 8*3600)
	server := start(t, Options{Zone: singapore})
	started := time.Now().Add(-time.Hour)
	server.Place("acme1", PlacedCall{Call: Call{SID: "c1", Started: started}})
	var got struct{ Call map[string]any }
	if err := json.Unmarshal(get(t, server, acme+"/c1.json").body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"DateCreated": started.In(singapore).Format(wallClock),
		"Status":      "completed",
		"Direction":   "outbound-api",
		"EndTime":     nil,
	}
	for k, v := range want {
		if got.Call[k] != v {
			t.Errorf("%s is %v, want %v", k, got.Call[k], v)
		}
	}
	if sids, _ := listPage(t, server, acme+".json"); len(sids) != 1 {
		t.Errorf("listed %v", sids)
	}
}
