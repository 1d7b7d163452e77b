package calldetails

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/resilience"
)

// Kinds of failures, for errors.Is.
var (
	// ErrNotFound means that Exotel does not know the call in this account. Exotel lists a call some seconds after it
	// was placed.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized means that the credentials, the account or the region are wrong. A retry does not help.
	ErrUnauthorized = errors.New("unauthorized")
	// errRateLimited means that the account's requests of this minute are used up. Error.RetryAfter says until when.
	errRateLimited = errors.New("rate limited")
	// ErrUnavailable means that Exotel did not answer, or that its response was not an answer. A later request may
	// succeed.
	ErrUnavailable = errors.New("unavailable")
	// errRefused means that Exotel, or this package before it, refused the request.
	errRefused = errors.New("refused")
	// ErrUnreadable means that the answer is not what Exotel documents.
	ErrUnreadable = errors.New("unreadable")
)

// maxWords bounds what an error quotes of an answer, or of the reason that there was none, in bytes. A Tenant names the
// host, whose header or certificate may be part of that reason.
const maxWords = 256

// Error says what happened, why and what to do. It never holds credentials, nor the query, which names people's
// numbers.
type Error struct {
	// Kind is one of the errors above.
	Kind error
	// Status is the HTTP status; 0 without an answer.
	Status int
	// RetryAfter is how long Exotel asked to be left alone; 0 when it did not.
	RetryAfter time.Duration

	what, why, remedy string
	cause             error
}

// Error is one sentence: what, why, what to do.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s; %s", e.what, e.why, e.remedy) }

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.cause}
}

// explain turns what an attempt ended with into an *Error, or into the caller's own context error.
func (c *Client) explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: given up: %w", what, context.Cause(ctx))
	}
	e := &Error{what: what, cause: err}
	var (
		own    *Error
		open   *resilience.OpenError
		answer *answerError
	)
	switch {
	case errors.As(err, &own):
		return err
	case errors.As(err, &open):
		e.Kind = ErrUnavailable
		e.why = err.Error()
		e.remedy = "nothing was asked; ask again after that"
		e.RetryAfter = max(time.Until(open.Until), 0)
	case errors.As(err, &answer):
		c.explainAnswer(e, answer)
	default:
		e.Kind = ErrUnavailable
		e.why = "no answer from " + c.base.Host + ": " + bounded.Text(err.Error(), maxWords)
		e.remedy = "check that the host resolves and can be reached from here; it is asked again later"
	}
	return e
}

func (c *Client) explainAnswer(e *Error, answer *answerError) {
	e.Status = answer.Status
	e.RetryAfter = answer.RetryAfter
	e.why = answer.Error()
	switch answer.Status {
	case http.StatusNotFound:
		e.Kind = ErrNotFound
		e.remedy = "a call is listed some seconds after it was placed; else check its id, the account SID " + c.account +
			" and " + c.region()
		if answer.listing { // an account always has a list, so this cluster does not know the account
			e.Kind = ErrUnauthorized
			e.remedy = "check " + c.region() + ", and the account SID " + c.account
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = ErrUnauthorized
		e.remedy = "check " + c.region() + ", the API key and token, and that they belong to the account SID " +
			c.account
	case http.StatusTooManyRequests:
		e.Kind = errRateLimited
		e.remedy = "Exotel allows an account 200 requests a minute: ask less often, or have Exotel raise the limit"
	default:
		e.Kind = errRefused
		e.remedy = "the question or the account's plan does not suit Exotel: compare its message with its documentation"
		if resilience.Classify(answer) == resilience.Transient {
			e.Kind = ErrUnavailable
			e.remedy = "this is Exotel's fault: it is asked again later; see status.exotel.com"
		}
	}
}

// region names the cluster that was asked. The other one answers 404 or 401 about an account that it does not have.
func (c *Client) region() string {
	return "the region (accounts in Mumbai use api.in.exotel.com, in Singapore api.exotel.com; this is " +
		c.base.Host + ")"
}

// refuse makes the error of a question that is not asked.
func refuse(what, why, remedy string) error {
	return &Error{Kind: errRefused, what: what, why: why, remedy: remedy}
}

// unreadable makes the error of an answer that cannot be used.
func unreadable(what string, cause error) error {
	why := bounded.Text(cause.Error(), maxWords)
	return &Error{
		Kind:   ErrUnreadable,
		Status: http.StatusOK,
		what:   what,
		why:    why,
		cause:  cause,
		remedy: "check that the address is Exotel's and that no proxy answers instead; else report it with the account's region",
	}
}

// answerError is an answer other than success, with Exotel's message. It unwraps to the error that package resilience
// judges.
type answerError struct {
	*resilience.HTTPError
	message string
	listing bool // the question was for the account's calls
}

// Unwrap gives package resilience its error.
func (e *answerError) Unwrap() error { return e.HTTPError }

// Error says who answered what, in Exotel's own words where it had some.
func (e *answerError) Error() string {
	if e.message == "" {
		return e.HTTPError.Error()
	}
	return fmt.Sprintf("%s (%q)", e.HTTPError, e.message)
}

// restMessage reads the message of Exotel's error envelope; "" where there is none. The envelope's code is left alone:
// it is a number in some answers and a word in others, and documented in none.
func (c *Client) restMessage(body []byte) string {
	var w struct {
		RestException struct{ Message text }
	}
	if json.Unmarshal(body, &w) != nil {
		return ""
	}
	return bounded.Text(c.secrets.Replace(string(w.RestException.Message)), maxWords)
}
