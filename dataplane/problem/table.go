package problem

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
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
		"a field or parameter is missing, unknown, given twice or out of its bounds, or the body is no JSON",
		"mend what `errors` names; sent again as it is, it fails again"},
	{Authentication, http.StatusUnauthorized, nil, "Not signed in",
		"there is no access token, or the email and password do not fit",
		"sign in, and send `Authorization: Bearer` with the access token"},
	{InvalidToken, http.StatusUnauthorized, nil, "The token is not valid",
		"the token is malformed, forged, expired, revoked, used up, or another tenant's",
		"refresh the access token once; where that fails too, sign in again"},
	{Forbidden, http.StatusForbidden, nil, "Not allowed",
		"whoever asks is known and may not do this, or the tenant is suspended",
		"ask an admin of the tenant for the role, or the platform for the tenant"},
	{NotFound, http.StatusNotFound, []int{http.StatusMethodNotAllowed}, "Not found",
		"there is no such path, tenant or object, or (405) the path has no such method",
		"check path and id; for 405 use a method that `Allow` names"},
	{Conflict, http.StatusConflict, nil, "In conflict with what is there",
		"what is there already, or its state, does not allow this",
		"read the object again, then decide"},
	{RateLimited, http.StatusTooManyRequests, nil, "Too many requests",
		"a limit is used up; `RateLimit-Policy` names it",
		"wait for as long as `Retry-After` says"},
	{PayloadTooLarge, http.StatusRequestEntityTooLarge, nil, "The body is too large",
		"the body is larger than this path takes",
		"send less"},
	{UnsupportedMediaType, http.StatusUnsupportedMediaType, nil, "Not a media type that is read here",
		"the body's `Content-Type` is another than `application/json`, or is missing",
		"send JSON, and say so"},
	{InvalidSignature, http.StatusUnauthorized, []int{http.StatusForbidden}, "The signature is not valid",
		"a webhook's signature, token or address was not accepted",
		"compare the Tenant's `spec.webhooks` with what the sender signs with"},
	{UpstreamFailure, http.StatusBadGateway, nil, "A service behind this one failed",
		"the object store or Exotel refused or answered with nonsense",
		"try again later; if it stays, give the platform the `requestId`"},
	{Timeout, http.StatusGatewayTimeout, []int{http.StatusRequestTimeout}, "Out of time",
		"the answer was not there in time, or (408) the body did not arrive in time",
		"try again, with pauses that grow"},
	{Unavailable, http.StatusServiceUnavailable, nil, "Not available now",
		"there is more to do than can be done, or the pod is starting or draining",
		"wait for as long as `Retry-After` says, then send it again"},
	{Database, http.StatusServiceUnavailable, nil, "The database is not available",
		"PostgreSQL does not answer; nothing was changed, as far as is known",
		"wait for as long as `Retry-After` says, then send it again"},
	{Internal, http.StatusInternalServerError, nil, "Something broke",
		"a defect; the log has the cause under the request's id",
		"try once more; if it stays, give the platform the `requestId`"},
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

// Markdown is the reference's table of the codes.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| code | status | when | what to do |\n| --- | --- | --- | --- |\n")
	for _, r := range table {
		var statuses []string
		for _, s := range r.Statuses() {
			statuses = append(statuses, strconv.Itoa(s))
		}
		_, _ = fmt.Fprintf(&b, "| <a id=%q></a>`%s` | %s | %s | %s |\n", r.Anchor(), r.Code, strings.Join(statuses, ", "), r.Means, r.Do)
	}
	return b.String()
}
