package api

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/internal/store"
)

// databaseRetry is when to come again while PostgreSQL is away.
const databaseRetry = 5 * time.Second

// busyRetry is the Retry-After of a request that its tenant has no database connection for.
const busyRetry = time.Second

// These are huma's own hooks, and package variables: with them its errors are problems, in answers and in the document, its lists are
// never null, as marshal writes them, and names differ by case.
func init() {
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return fromHuma(status, message, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
		return finish(ctx.Context(), fromHuma(status, message, errs))
	}
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
}

// explain makes a problem of whatever a handler failed with.
func (a *API) explain(ctx context.Context, err error) error {
	p := classify(err)
	if p.Code == problem.Internal || p.Code == problem.UpstreamFailure {
		a.o.Log.ErrorContext(ctx, "a request failed", "request", RequestID(ctx), "code", string(p.Code), "error", err)
	}
	return finish(ctx, p)
}

func classify(err error) *problem.Problem {
	var p *problem.Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, store.ErrTenantBusy):
		return problem.New(problem.Unavailable, "too many requests of this tenant are in progress; retry later").
			WithRetryAfter(busyRetry).WithCause(err)
	case errors.Is(err, store.ErrUnavailable):
		return problem.New(problem.Database,
			"the database does not answer; retry later").WithRetryAfter(databaseRetry).WithCause(err)
	case errors.Is(err, context.DeadlineExceeded):
		return problem.New(problem.Timeout, "the answer was not ready in time; retry later").WithCause(err)
	case errors.Is(err, context.Canceled): // the peer has gone: nobody reads this
		return problem.New(problem.Unavailable, "the client closed the request").WithCause(err)
	}
	return problem.New(problem.Internal, "internal error; give the platform the requestId").WithCause(err)
}

// finish adds what only the request knows.
func finish(ctx context.Context, p *problem.Problem) *problem.Problem {
	facts := factsOf(ctx)
	q := *challenged(p)
	q.RequestID = facts.requestID
	if facts.api != nil {
		facts.api.m.fail(p.Code)
		if facts.api.o.Mode == Development && p.Cause != nil {
			q.Debug = p.Cause.Error()
		}
	}
	return &q
}

// RFC 6750: every 401 says how to authenticate.
const (
	challengeHeader = "WWW-Authenticate"
	challenge       = `Bearer realm="caly"`
)

func challenged(p *problem.Problem) *problem.Problem {
	switch {
	case p.Status != http.StatusUnauthorized || p.Header.Get(challengeHeader) != "":
		return p
	case p.Code == problem.InvalidToken:
		return p.WithHeader(challengeHeader, challenge+`, error="invalid_token"`)
	}
	return p.WithHeader(challengeHeader, challenge)
}

// fromHuma makes a problem of what huma found wrong with a request. Of the values that it quotes none goes on: one may be a password.
func fromHuma(status int, message string, errs []error) *problem.Problem {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotAcceptable:
		p := problem.New(problem.Validation, message)
		for _, err := range errs {
			p = addField(p, err)
		}
		return p
	}
	return problem.New(problem.Internal,
		"internal error; give the platform the requestId").WithCause(errors.Join(errs...))
}

func addField(p *problem.Problem, err error) *problem.Problem {
	errorDetailer, ok := err.(huma.ErrorDetailer)
	if !ok {
		return p.WithField("", err.Error())
	}
	location := errorDetailer.ErrorDetail().Location
	message := errorDetailer.ErrorDetail().Message
	if m := missing.FindStringSubmatch(message); m != nil {
		location = location + "." + m[1]
		message = "required, and missing"
	}
	return p.WithField(fieldPath(location), unquoted(message))
}

// missing is huma's message of a member that is not there, which it tells of what it is missing in.
var missing = regexp.MustCompile(
	"^" + strings.Replace(regexp.QuoteMeta(validation.MsgExpectedRequiredProperty), "%s", "([^ ]+)", 1) + "$",
)

// fieldPath makes a JSON pointer of huma's body.items[3].name, and the parameter's name of query.limit.
func fieldPath(location string) string {
	where, rest, _ := strings.Cut(location, ".")
	if name, index, ok := strings.Cut(where, "["); ok { // the body itself is a list
		where = name
		rest = strings.TrimSuffix("["+index+"."+rest, ".")
	}
	if where != "body" {
		return rest
	}
	var b strings.Builder
	for _, part := range strings.FieldsFunc(rest, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(part))
	}
	return printable(b.String(), maxDevice)
}

// quoting are huma's messages that end in an error of a parser, which may quote the value.
var quoting = []string{
	validation.MsgExpectedRFC5322Email,
	validation.MsgExpectedRFC3986URI,
	validation.MsgExpectedRFC4122UUID,
	validation.MsgExpectedRegexp,
	validation.MsgExpectedDuration,
	"invalid value: %v",
}

func unquoted(message string) string {
	for _, format := range quoting {
		if start := strings.TrimSuffix(format, ": %v"); strings.HasPrefix(message, start+": ") {
			return start
		}
	}
	return message
}
