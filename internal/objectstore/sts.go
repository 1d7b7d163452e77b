package objectstore

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/resilience"
)

// Bounds of what an STS may answer.
const (
	// assumeWithin bounds one exchange.
	assumeWithin = 20 * time.Second
	// maxAssumed bounds the answer, and maxCredential each of the credentials, in bytes.
	maxAssumed    = 64 << 10
	maxCredential = 12 << 10
	// MinLifetime and MaxLifetime bound the lifetime of temporary credentials. A pod may get them minutes after their
	// issue, and each renewal writes the Tenant's configs. Amazon's longest session has 36 hours.
	MinLifetime = 10 * time.Minute
	MaxLifetime = 36 * time.Hour
)

// WebIdentity is a request to an STS (security token service) for temporary credentials in return for a token of an
// identity provider.
type WebIdentity struct {
	// Endpoint is the URL of the STS, and CABundle what Options.CABundle is for a store.
	Endpoint, CABundle string
	// RoleARN is the role that the credentials are for; empty: the request names none.
	RoleARN string
	// SessionName is what the provider's logs show.
	SessionName string
	// Token proves Subject to Audience.
	Token             string
	Subject, Audience string
	// Duration is the lifetime that is asked for.
	Duration time.Duration
}

// TemporaryKey is what an STS issues.
type TemporaryKey struct {
	AccessKeyID, SecretAccessKey, SessionToken string
	// Lifetime is how long it is valid from the answer on.
	Lifetime time.Duration
}

// AssumeRole exchanges a token for temporary credentials. It makes one request and follows no redirect. Every error is
// an *IdentityError. The protocol is that of
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func (t *Transport) AssumeRole(ctx context.Context, w WebIdentity) (TemporaryKey, error) {
	endpoint, err := url.Parse(w.Endpoint)
	if err != nil || endpoint.Host == "" || !rootOf(endpoint) {
		return TemporaryKey{}, w.failed(errEndpoint)
	}
	if err := t.check(endpoint); err != nil {
		return TemporaryKey{}, w.failed(err)
	}
	t, err = t.trusting(w.CABundle)
	if err != nil {
		return TemporaryKey{}, w.failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, assumeWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.Endpoint, strings.NewReader(w.form().Encode()))
	if err != nil {
		return TemporaryKey{}, w.failed(errEndpoint)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	key, err := t.assume(req)
	if err != nil {
		return TemporaryKey{}, w.failed(err)
	}
	return key, nil
}

func (w *WebIdentity) form() url.Values {
	form := url.Values{
		"Action":           {"AssumeRoleWithWebIdentity"},
		"Version":          {"2011-06-15"},
		"WebIdentityToken": {w.Token},
		"DurationSeconds":  {strconv.Itoa(int(w.Duration / time.Second))},
	}
	if w.RoleARN != "" { // MinIO without a role policy refuses a request with one
		form.Set("RoleArn", w.RoleARN)
		form.Set("RoleSessionName", w.SessionName)
	}
	return form
}

// assume makes the request. An error answer is an error of RoundTrip.
func (t *Transport) assume(req *http.Request) (TemporaryKey, error) {
	resp, err := t.RoundTrip(req)
	if err != nil {
		return TemporaryKey{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAssumed+1))
	if err != nil {
		return TemporaryKey{}, err
	}
	if len(data) > maxAssumed {
		return TemporaryKey{}, errNotSTS
	}
	began := time.Now()
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		began = at // the clocks may differ
	}
	return readAssumed(data, began)
}

// rootOf reports whether a URL has no path and no query. The author of a Tenant names the endpoint, and must not choose
// what is posted to on the networks that the platform allows.
func rootOf(u *url.URL) bool {
	return (u.Path == "" || u.Path == "/") && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

var (
	errEndpoint = errors.New("the STS endpoint must be a URL without a path, such as " +
		"https://sts.eu-west-1.amazonaws.com")
	errNotSTS = resilience.Retryable(errors.New("the answer is not one of an STS"))
)

// lieError is the error of an STS that issues what cannot be used.
type lieError struct{ fault string }

// Error returns the fault.
func (e *lieError) Error() string {
	return "the STS issued credentials that cannot be used: " + e.fault
}

// assumed is the answer of an STS.
type assumed struct {
	XMLName     xml.Name `xml:"AssumeRoleWithWebIdentityResponse"`
	Credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	} `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
}

// readAssumed reads the answer of an STS. It began at a time of the clock of the STS.
func readAssumed(data []byte, began time.Time) (TemporaryKey, error) {
	var a assumed
	if xml.Unmarshal(data, &a) != nil {
		return TemporaryKey{}, errNotSTS
	}
	c := a.Credentials
	for _, part := range []struct{ name, value, not string }{
		{"AccessKeyId", c.AccessKeyID, "/,="},
		{"SecretAccessKey", c.SecretAccessKey, ""},
		{"SessionToken", c.SessionToken, ""},
	} {
		if fault := credentialFault(part.value, part.not); fault != "" {
			return TemporaryKey{}, &lieError{part.name + " " + fault}
		}
	}
	expires, err := time.Parse(time.RFC3339, c.Expiration)
	if err != nil {
		return TemporaryKey{}, &lieError{"the Expiration is missing, or is not a time"}
	}
	lifetime := expires.Sub(began)
	if lifetime < MinLifetime || lifetime > MaxLifetime {
		return TemporaryKey{}, &lieError{fmt.Sprintf("the Expiration %s is %s after the time of the answer, and must "+
			"be %s to %s after it", expires.UTC().Format(time.RFC3339), lifetime.Round(time.Second), MinLifetime,
			MaxLifetime)}
	}
	return TemporaryKey{
		AccessKeyID:     c.AccessKeyID,
		SecretAccessKey: c.SecretAccessKey,
		SessionToken:    c.SessionToken,
		Lifetime:        lifetime,
	}, nil
}

// credentialFault returns what is wrong with a credential. The fault quotes nothing of it.
func credentialFault(value, not string) string {
	switch {
	case value == "":
		return "is empty"
	case len(value) > maxCredential:
		return fmt.Sprintf("is longer than %d bytes", maxCredential)
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }), strings.ContainsAny(value, not):
		return "has a character that no credential has"
	}
	return ""
}
