package exotelsim

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// accountsPrefix of the API v1. Case matters, as with Exotel.
const accountsPrefix = "/v1/Accounts/"

// DetailQuirks of one question to Call Details, or of all.
type DetailQuirks struct {
	// NotFound is how many requests are answered 404 first, as for a call that is not indexed yet.
	NotFound int
	// TooMany is how many requests are answered 429 first, with Retry-After unless it is below zero; zero means the
	// documented 30 s.
	TooMany    int
	RetryAfter time.Duration
	// Status answers this instead, for as long as it is set; Failures bounds how often if it is not 0.
	Status, Failures int
	// Message replaces the one in the error's envelope.
	Message string
	// Delay comes before the answer.
	Delay time.Duration
	// HTML answers 200 with a page instead of JSON.
	HTML bool
	// Truncations is how many times the connection is cut within the body.
	Truncations int
	// Swapped writes numbers where Exotel mostly writes strings, and the other way round.
	Swapped bool
	// EpochEnd writes the placeholder at the epoch, instead of null, where a call has no end yet.
	EpochEnd bool
	// NullNext writes null instead of "" where there is no page.
	NullNext bool
	// NextHost makes the next page's address absolute, on this host.
	NextHost string
	// SamePage makes every page its own next page.
	SamePage bool
	// RawNext leaves the next page's address unescaped.
	RawNext bool
}

func (q DetailQuirks) number(s string) any {
	if q.Swapped {
		return number(s)
	}
	return s
}

// SetDetails gives one question to Call Details, by its URL's path, quirks of its own.
func (s *Server) SetDetails(path string, q DetailQuirks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detailQuirks[path] = &q
}

// SetAllDetails gives quirks to every question without its own.
func (s *Server) SetAllDetails(q DetailQuirks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allDetails = q
}

// takeDetails counts the request and uses up one of each quirk that has a number.
func (s *Server) takeDetails(path string) DetailQuirks {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[path]++
	own, ok := s.detailQuirks[path]
	if !ok {
		fresh := s.allDetails
		own = &fresh
		s.detailQuirks[path] = own
	}
	now := *own
	switch {
	case own.NotFound > 0:
		own.NotFound--
	case own.TooMany > 0:
		own.TooMany--
	case own.Status != 0 && own.Failures > 0:
		if own.Failures--; own.Failures == 0 {
			own.Status = 0
		}
	case own.Truncations > 0:
		own.Truncations--
	}
	return now
}

// serveDetails answers Call Details v1: .../Calls[.json] and .../Calls/{sid}[.json].
func (s *Server) serveDetails(w http.ResponseWriter, r *http.Request) {
	if !s.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Basic realm="Exotel"`)
		restException(w, r, http.StatusUnauthorized, "Authentication is required to view this page")
		return
	}
	account, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, accountsPrefix), "/")
	resource, sid, single := strings.Cut(rest, "/")
	switch {
	case account == "",
		resource != "Calls" && (single || resource != "Calls.json"),
		single && (sid == "" || strings.Contains(sid, "/")):
		restException(w, r, http.StatusNotFound, "The requested resource does not exist")
	case r.Method != http.MethodGet:
		restException(w, r, http.StatusMethodNotAllowed, "Use GET")
	default:
		detailQuirks := s.takeDetails(r.URL.Path)
		if !misbehave(w, r, detailQuirks) {
			s.tell(w, r, detailQuirks, account, strings.TrimSuffix(sid, ".json"))
		}
	}
}

// misbehave answers in place of the API if a quirk says so.
func misbehave(w http.ResponseWriter, r *http.Request, q DetailQuirks) bool {
	select {
	case <-r.Context().Done():
		return true
	case <-time.After(q.Delay):
	}
	status := 0
	message := ""
	switch {
	case q.NotFound > 0:
		status = http.StatusNotFound
		message = "The requested resource does not exist"
	case q.TooMany > 0:
		status = http.StatusTooManyRequests
		message = "Rate limit exceeded"
		retryAfter(w, q.RetryAfter)
	case q.Status != 0:
		status = q.Status
		message = http.StatusText(q.Status)
	case q.HTML:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>one moment</html>")
		return true
	case q.Truncations > 0:
		breakOff(w)
	}
	if q.Message != "" {
		message = q.Message
	}
	if status != 0 {
		restException(w, r, status, message)
	}
	return status != 0
}

func retryAfter(w http.ResponseWriter, after time.Duration) {
	switch {
	case after == 0:
		w.Header().Set("Retry-After", "30")
	case after > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	}
}

func breakOff(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"Call":{"Sid":"`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // cuts the connection in the middle of the body
}

// tell answers about one call, or about many if sid is empty.
func (s *Server) tell(w http.ResponseWriter, r *http.Request, q DetailQuirks, account, sid string) {
	if err := validity(r.URL.Query()); err != nil {
		restException(w, r, http.StatusBadRequest, err.Error())
		return
	}
	if sid == "" {
		s.tellMany(w, r, q, account)
		return
	}
	placedCall, ok := s.call(account, sid)
	if !ok {
		restException(w, r, http.StatusNotFound, "The requested resource does not exist")
		return
	}
	o := s.record(account, placedCall, q)
	if r.URL.Query().Get("details") == "true" {
		o = append(o, member{"Details", placedCall.details(q)})
	}
	respond(w, r, http.StatusOK, object{{"Call", o}})
}

// validity checks RecordingUrlValidity. What it is for, a presigned URL, is not enabled in this account.
func validity(q url.Values) error {
	if v := q.Get("RecordingUrlValidity"); v != "" {
		if n, err := strconv.Atoi(v); err != nil || n < 5 || n > 60 {
			return fmt.Errorf("RecordingUrlValidity %q is not 5 to 60", v)
		}
	}
	return nil
}

// restException writes Exotel's error envelope. The codes of v1 are not documented; the status stands for them.
func restException(w http.ResponseWriter, r *http.Request, status int, message string) {
	code := number(strconv.Itoa(status))
	respond(w, r, status, object{{"RestException", object{{"Status", code}, {"Message", message}, {"Code", code}}}})
}
