package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/dataplane/token"
)

// visit is one request on its way to its handler.
type visit struct {
	op        Operation
	takesBody bool
	facts     *facts
	ctx       context.Context
	w         http.ResponseWriter
	r         *http.Request
}

// admit returns the middleware of every operation: steps in order. Each step can refuse the request.
func (a *API) admit(op Operation, takesBody bool) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		req, responseWriter := humago.Unwrap(c)
		ctx, cancel := context.WithTimeout(req.Context(), a.o.Timeout)
		defer cancel()
		v := &visit{op: op, takesBody: takesBody, facts: factsOf(ctx), ctx: ctx, w: responseWriter, r: req}
		defer a.m.observe(op.ID)()
		for _, step := range []func(*visit) *problem.Problem{a.open, a.authenticate, a.permit, a.throttle, a.readBody} {
			if p := step(v); p != nil {
				problem.Unread(responseWriter, req)
				finish(ctx, p).Write(responseWriter, v.facts.requestID)
				return
			}
		}
		next(huma.WithContext(c, ctx))
	}
}

// open finds the tenant of public operations.
func (a *API) open(v *visit) *problem.Problem {
	if v.op.Access.kind != public {
		return nil
	}
	return v.facts.findTenant(a.o.Tenants())
}

// authenticate identifies the caller and the tenant of the token. The answer is the same for every fault of a token.
func (a *API) authenticate(v *visit) *problem.Problem {
	switch v.op.Access.kind {
	case public:
		return nil
	case testers:
		return a.admitTester(v.r)
	}
	if p := v.facts.naming.disagree(); p != nil {
		return p
	}
	raw, ok := bearer(v.r)
	if !ok {
		return noToken()
	}
	tenants := a.o.Tenants()
	claims, err := a.o.Tokens.Check(raw)
	switch {
	case errors.Is(err, token.ErrNotReady):
		return problem.New(problem.Unavailable,
			"this pod cannot verify tokens yet; retry later").WithRetryAfter(time.Second).WithCause(err)
	case err != nil:
		return badToken().WithCause(err)
	}
	t, known := tenants.Tenant(claims.Tenant)
	named := len(v.facts.naming) == 0 || v.facts.naming[0] == claims.Tenant
	if !known && !tenants.Complete() {
		return problem.TenantUnknown()
	}
	if !known || t.UID != claims.TenantUID || t.Suspended || t.Auth == nil || !named {
		return badToken()
	}
	v.facts.tenant = t
	v.facts.principal = &Principal{
		Tenant:    t.ID,
		UserID:    claims.UserID,
		SessionID: claims.SessionID,
		Role:      claims.Role,
		Claims:    claims,
	}
	a.allowOrigin(v.w, v.r, t)
	if err := v.facts.place.Verified(t.ID); err != nil {
		return overloaded(err)
	}
	return nil
}

// bearer is the token of an Authorization header, if there is one.
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, raw, _ := strings.Cut(values[0], " ")
	raw = strings.TrimSpace(raw)
	return raw, strings.EqualFold(scheme, "Bearer") && raw != ""
}

func noToken() *problem.Problem {
	return problem.New(problem.Authentication,
		"the access token is missing; sign in, and send it with Authorization: Bearer")
}

func badToken() *problem.Problem {
	return problem.New(problem.InvalidToken, "the access token is not valid; refresh it, or sign in again")
}

// permit holds the role against the operation's.
func (a *API) permit(v *visit) *problem.Problem {
	roles := v.op.Access.roles
	if len(roles) == 0 || slices.Contains(roles, v.facts.principal.Role) {
		return nil
	}
	return problem.New(
		problem.Forbidden, "this is for the role "+strings.Join(roles, " or "),
	).WithHeader(challengeHeader, challenge+`, error="insufficient_scope"`)
}

// throttle counts the requests of each principal. What is public counts for itself.
func (a *API) throttle(v *visit) *problem.Problem {
	if v.facts.principal == nil || a.o.Limiter == nil {
		return nil
	}
	decision := a.o.Limiter.Take(v.ctx, v.facts.tenant, ratelimit.API, v.facts.principal.UserID)
	decision.SetHeaders(v.w.Header())
	if decision.Allowed {
		return nil
	}
	return problem.New(problem.RateLimited,
		"too many requests; wait for the time in Retry-After").WithRetryAfter(decision.RetryAfter)
}
