package problem

import (
	"net/http"
	"slices"
)

// base is what the types of problems begin with: an identifier for good, whether or not anything is served there.
const base = "https://caly.dev/problems/"

// Row is what there is to say of a code.
type Row struct {
	Code Code
	// Status is the default; Also are those it has in other cases.
	Status int
	Also   []int
	Title  string
	// Means says when it is answered, Do what to do about it.
	Means, Do string
}

// Type is the URI that names the code's problems.
func (r Row) Type() string { return base + string(r.Code) }

// Anchor is what the code is called in links into the page and into the reference.
func (r Row) Anchor() string { return "problem-" + string(r.Code) }

// Statuses are all that the code may have, the default first.
func (r Row) Statuses() []int { return append([]int{r.Status}, r.Also...) }

var table = []Row{
	{Validation, http.StatusBadRequest, nil, "The request is not valid",
		"a field or parameter is missing, unknown, repeated or out of bounds, or the body is not JSON",
		"correct what `errors` names; the same request fails again"},
	{Authentication, http.StatusUnauthorized, nil, "Not signed in",
		"the access token is missing, or the email or password is wrong",
		"sign in, and send `Authorization: Bearer` with the access token"},
	{InvalidToken, http.StatusUnauthorized, nil, "The token is not valid",
		"the token is malformed, forged, expired, revoked, used up, or another tenant's",
		"refresh the access token once; where that fails too, sign in again"},
	{Forbidden, http.StatusForbidden, nil, "Not allowed",
		"the caller is known but not allowed to do this, or the tenant is suspended",
		"ask an admin of the tenant for the role; for a suspended tenant ask the platform"},
	{NotFound, http.StatusNotFound, []int{http.StatusMethodNotAllowed}, "Not found",
		"the path, tenant or object does not exist, or (405) the path does not support the method",
		"check path and id; for 405 use a method that `Allow` names"},
	{Conflict, http.StatusConflict, nil, "Conflicts with the current state",
		"the object exists already, or its state or the tenant's store does not allow this",
		"do what `detail` says; without one read the object again, then decide"},
	{RateLimited, http.StatusTooManyRequests, nil, "Too many requests",
		"a rate limit is exhausted; `RateLimit-Policy` names it",
		"wait for the time in `Retry-After`"},
	{PayloadTooLarge, http.StatusRequestEntityTooLarge, nil, "The body is too large",
		"the body is larger than this path accepts",
		"send a smaller body"},
	{UnsupportedMediaType, http.StatusUnsupportedMediaType, nil, "Unsupported media type",
		"the `Content-Type` of the body is missing or is not `application/json`",
		"send JSON with `Content-Type: application/json`"},
	{InvalidSignature, http.StatusUnauthorized, []int{http.StatusForbidden}, "The signature is not valid",
		"a webhook's signature, token or address was not accepted",
		"compare the Tenant's `spec.webhooks` with what the sender signs with"},
	{UpstreamFailure, http.StatusBadGateway, nil, "An upstream service failed",
		"the object store or Exotel rejected the request, or its answer could not be read",
		"retry later; if it persists, give the platform the `requestId`"},
	{Timeout, http.StatusGatewayTimeout, []int{http.StatusRequestTimeout}, "Timeout",
		"the answer was not ready in time, or (408) the body did not arrive in time",
		"retry with exponential backoff"},
	{Unavailable, http.StatusServiceUnavailable, nil, "Temporarily unavailable",
		"the server is busy, or the pod is starting or draining",
		"wait for the time in `Retry-After`, then retry"},
	{Database, http.StatusServiceUnavailable, nil, "The database is not available",
		"PostgreSQL does not answer; as far as is known, nothing was changed",
		"wait for the time in `Retry-After`, then retry"},
	{Internal, http.StatusInternalServerError, nil, "Internal error",
		"a defect; the log has the cause under the request ID",
		"retry once; if it persists, give the platform the `requestId`"},
}

// Table is all codes in the order of the reference.
func Table() []Row { return slices.Clone(table) }

// Of returns a code's row. A code outside the set is a defect, and answered as one.
func Of(code Code) Row {
	i := slices.IndexFunc(table, func(r Row) bool { return r.Code == code })
	if i < 0 {
		return Of(Internal)
	}
	return table[i]
}
