package exotelsim

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wallClock is how Exotel writes a time.
const wallClock = "2006-01-02 15:04:05"

// maxWindow is the month for which Exotel lists calls at once.
const maxWindow = 31 * 24 * time.Hour

// question is a listing's query, understood.
type question struct {
	values        url.Values
	size          int
	newestFirst   bool
	from, to      time.Time
	after, before string // ids of calls
	keep          []func(PlacedCall) bool
}

// tellMany answers one page of an account's calls.
func (s *Server) tellMany(w http.ResponseWriter, r *http.Request, quirks DetailQuirks, account string) {
	values, err := url.ParseQuery(r.URL.RawQuery) // a bare semicolon is an error here, and left out by URL.Query
	if err != nil {
		restException(w, r, http.StatusBadRequest, "the query is not escaped")
		return
	}
	question, err := s.question(values)
	if err != nil {
		restException(w, r, http.StatusBadRequest, err.Error())
		return
	}
	matching := s.matching(account, question)
	start, end, err := question.bounds(matching)
	if err != nil {
		restException(w, r, http.StatusBadRequest, err.Error())
		return
	}
	var records []object
	for _, c := range matching[start:end] {
		records = append(records, s.record(account, c, quirks))
	}
	metadata := object{
		{"Total", number(strconv.Itoa(len(matching)))},
		{"PageSize", number(strconv.Itoa(question.size))},
	}
	metadata = append(metadata, pages(r, question, quirks, shown{matching, start, end})...)
	respond(w, r, http.StatusOK, object{{"Metadata", metadata}, {"Calls", list{item: "Call", objects: records}}})
}

// shown is one page of the calls that match: those from start to end.
type shown struct {
	matching   []PlacedCall
	start, end int
}

// pages are the addresses of the first, the previous and the next page.
func pages(r *http.Request, q question, quirks DetailQuirks, s shown) object {
	none := any("")
	if quirks.NullNext {
		none = nil
	}
	prev := none
	next := none
	if s.start > 0 {
		prev = q.page(r.URL.Path, "Before", s.matching[s.start].SID)
	}
	if s.end < len(s.matching) {
		address := q.page(r.URL.Path, "After", s.matching[s.end-1].SID)
		if quirks.RawNext {
			address, _ = url.QueryUnescape(address)
		}
		next = address
		if quirks.NextHost != "" {
			next = "http://" + quirks.NextHost + address
		}
	}
	if quirks.SamePage {
		next = r.URL.RequestURI()
	}
	return object{{"FirstPageUri", q.page(r.URL.Path, "", "")}, {"PrevPageUri", prev}, {"NextPageUri", next}}
}

// page is the address of the page after or before a call; of the first one without.
func (q question) page(path, cursor, sid string) string {
	values := url.Values{}
	for k := range q.values {
		if k != "After" && k != "Before" {
			values.Set(k, q.values.Get(k))
		}
	}
	values.Set("PageSize", strconv.Itoa(q.size))
	if cursor != "" {
		values.Set(cursor, base64.RawURLEncoding.EncodeToString([]byte(sid)))
	}
	return path + "?" + values.Encode()
}

// bounds of the page within the calls: at most its size, after or before the cursor's call.
func (q question) bounds(matching []PlacedCall) (start, end int, err error) {
	cursor := cmp.Or(q.after, q.before)
	at := slices.IndexFunc(matching, func(c PlacedCall) bool { return c.SID == cursor })
	switch {
	case cursor == "":
		return 0, min(q.size, len(matching)), nil
	case at < 0:
		return 0, 0, errors.New("the cursor belongs to no page of these calls")
	case q.after != "":
		return at + 1, min(at+1+q.size, len(matching)), nil
	}
	return max(at-q.size, 0), at, nil
}

func (s *Server) matching(account string, q question) []PlacedCall {
	calls := slices.DeleteFunc(s.ended(account), func(c PlacedCall) bool {
		created := c.Created.Truncate(time.Second) // Exotel knows no fractions
		return created.Before(q.from) || created.After(q.to) ||
			slices.ContainsFunc(q.keep, func(k func(PlacedCall) bool) bool { return !k(c) })
	})
	if q.newestFirst {
		slices.Reverse(calls)
	}
	return calls
}

// question reads a listing's query. What Exotel documents a bound for and is beyond it is an error.
func (s *Server) question(v url.Values) (question, error) {
	q := question{values: v, size: 50, newestFirst: true}
	if p := v.Get("PageSize"); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 100 {
			return q, fmt.Errorf("PageSize %q is not 1 to 100", p)
		}
		q.size = n
	}
	switch order := v.Get("SortBy"); order {
	case "", "DateCreated:desc":
	case "DateCreated:asc":
		q.newestFirst = false
	default:
		return q, fmt.Errorf("SortBy %q is neither DateCreated:asc nor DateCreated:desc", order)
	}
	return q, errors.Join(q.readCursors(), s.readWindow(&q), q.readFilters())
}

func (q *question) readCursors() error {
	after, err := base64.RawURLEncoding.DecodeString(q.values.Get("After"))
	before, err2 := base64.RawURLEncoding.DecodeString(q.values.Get("Before"))
	if err != nil || err2 != nil || len(after) > 0 && len(before) > 0 {
		return errors.New("cursors are taken from NextPageUri or PrevPageUri, one at a time")
	}
	q.after = string(after)
	q.before = string(before)
	return nil
}

// readWindow reads DateCreated in the account's zone; without it Exotel looks at the last 31 days.
func (s *Server) readWindow(q *question) error {
	now := s.o.Now()
	q.from = now.Add(-maxWindow)
	q.to = now
	given := q.values.Get("DateCreated")
	if given == "" {
		return nil
	}
	for op, value := range operators(given) {
		t, err := time.ParseInLocation(wallClock, value, s.o.Zone)
		switch {
		case err != nil:
			return fmt.Errorf("DateCreated %q is not gte:YYYY-MM-DD hh:mm:ss;lte:YYYY-MM-DD hh:mm:ss", given)
		case op == "gte":
			q.from = t
		case op == "lte":
			q.to = t
		default:
			return fmt.Errorf("DateCreated knows gte and lte, not %q", op)
		}
	}
	if q.to.Sub(q.from) > maxWindow || q.from.Before(now.AddDate(0, -6, 0)) {
		return fmt.Errorf("DateCreated %q is longer than a month or older than six", given)
	}
	return nil
}

// readFilters reads what chooses calls by their fields.
func (q *question) readFilters() error {
	for _, f := range []struct {
		name  string
		limit int
		same  func(c PlacedCall, value string) bool
	}{
		{"Sid", 100, func(c PlacedCall, v string) bool { return c.SID == v }},
		{"To", 5, func(c PlacedCall, v string) bool { return sameNumber(c.To, v) }},
		{"From", 5, func(c PlacedCall, v string) bool { return sameNumber(c.From, v) }},
		{"PhoneNumber", 5, func(c PlacedCall, v string) bool { return sameNumber(c.PhoneNumber, v) }},
		{"Status", 1, func(c PlacedCall, v string) bool { return c.Status == v }},
		{"Direction", 1, func(c PlacedCall, v string) bool { return c.Direction == v }},
	} {
		given := q.values.Get(f.name)
		if given == "" {
			continue
		}
		values := strings.Split(given, ",")
		if len(values) > f.limit {
			return fmt.Errorf("%s holds more than %d values", f.name, f.limit)
		}
		q.keep = append(q.keep, func(c PlacedCall) bool {
			return slices.ContainsFunc(values, func(v string) bool { return f.same(c, v) })
		})
	}
	return errors.Join(q.readRange("Duration", "s", PlacedCall.duration), q.readRange("Price", "", PlacedCall.price))
}

// readRange reads gte:10s;lte:45s or eq:30s.
func (q *question) readRange(name, unit string, field func(PlacedCall) (float64, bool)) error {
	for op, value := range operators(q.values.Get(name)) {
		bound, err := strconv.ParseFloat(strings.TrimSuffix(value, unit), 64)
		if err != nil || !slices.Contains([]string{"gte", "lte", "eq"}, op) {
			return fmt.Errorf("%s is not made of gte:, lte: or eq: and a number", name)
		}
		q.keep = append(q.keep, func(c PlacedCall) bool {
			n, ok := field(c)
			return ok && (n == bound || op == "gte" && n > bound || op == "lte" && n < bound)
		})
	}
	return nil
}

func (c PlacedCall) duration() (float64, bool) {
	n, ok := c.seconds()
	return float64(n), ok
}

func (c PlacedCall) price() (float64, bool) {
	n, err := strconv.ParseFloat(c.Price, 64)
	return n, err == nil
}

// operators splits "gte:a;lte:b".
func operators(s string) map[string]string {
	ops := map[string]string{}
	for part := range strings.SplitSeq(s, ";") {
		if op, value, _ := strings.Cut(part, ":"); part != "" {
			ops[op] = value
		}
	}
	return ops
}

// sameNumber compares the last ten digits: filters are in E.164, records mostly national.
func sameNumber(a, b string) bool {
	tail := func(s string) string { return s[max(len(s)-10, 0):] }
	return tail(a) == tail(b)
}
