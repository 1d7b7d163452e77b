package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/resilience"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// dependency names for the breakers.
const (
	dependencyExotel = "exotel"
	dependencyS3     = "s3"
)

// maxRedirects of one request; each hop is checked like the first.
const maxRedirects = 3

// source fetches recordings from where the tenant's policy allows.
type source struct {
	policy     recording.SourcePolicy
	key, token secret.Sensitive
	// api is the address that the Tenant names for Exotel's API; nil if it names none.
	api      *url.URL
	client   *http.Client
	registry *resilience.Registry
	tenant   string
	// stall is how long a body may bring no byte.
	stall time.Duration
	// resumed counts reopened bodies.
	resumed func()
}

func newSource(
	cfg *tenantconfig.Upload,
	policy recording.SourcePolicy,
	transport http.RoundTripper,
	registry *resilience.Registry,
	stall time.Duration,
) *source {
	s := &source{
		policy:   policy,
		key:      cfg.ExotelKey,
		token:    cfg.ExotelToken,
		registry: registry,
		tenant:   cfg.ID,
		stall:    stall,
		resumed:  func() {},
	}
	if api, err := url.Parse(cfg.ExotelAPI); err == nil && api.Host != "" {
		s.api = api
	}
	s.client = &http.Client{Transport: transport, CheckRedirect: s.checkRedirect}
	return s
}

// checkRedirect admits a hop by the same policy as the first URL, and keeps what was meant for the first host from others.
func (s *source) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &recording.SourceError{
			Reason: fmt.Sprintf("the source redirects more than %d times: check the recording's URL", maxRedirects),
		}
	}
	exotel.Secure(req.URL)
	if err := s.policy.Validate(req.URL.String()); err != nil {
		return err
	}
	req.Header.Del("Referer") // it would carry the signature of a signed URL
	if !sameOrigin(req.URL, via[0].URL) || leftOrigin(via) || !s.takesCredentials(req.URL) {
		req.Header.Del("Authorization")
	}
	return nil
}

// leftOrigin tells whether some hop was at another host: credentials do not come back after that.
func leftOrigin(via []*http.Request) bool {
	for _, r := range via[1:] {
		if !sameOrigin(r.URL, via[0].URL) {
			return true
		}
	}
	return false
}

// sameOrigin reports whether two URLs have the same scheme, host and port. Credentials are sent to the same origin
// only.
func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// get makes one request, with tries, and returns an answer of status want or a *fault. extra are further headers.
func (s *source) get(
	ctx context.Context,
	rawURL string,
	extra http.Header,
	want ...int,
) (resp *http.Response, err error) {
	if err := s.policy.Validate(rawURL); err != nil {
		return nil, requestFault("", err)
	}
	err = s.registry.Do(ctx, s.tenant, dependencyExotel, func(ctx context.Context) error {
		resp, err = s.once(ctx, rawURL, extra, want) //nolint:bodyclose // the caller's
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// once makes one request, without redirects. It returns a fault for a status that is not in want.
func (s *source) once(ctx context.Context, rawURL string, extra http.Header, want []int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, requestFault("", &recording.SourceError{Reason: "the source URL cannot be read"})
	}
	for k, v := range extra {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "caly-upload")
	req.Header.Set("Accept-Encoding", "identity")
	if s.key != "" && s.takesCredentials(req.URL) {
		req.SetBasicAuth(s.key.Reveal(), s.token.Reveal())
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, requestFault(failedHost(req, err), err)
	}
	for _, status := range want {
		if resp.StatusCode == status {
			return resp, nil
		}
	}
	return nil, answerFault(resp)
}

// failedHost returns the host of the hop that failed.
func failedHost(req *http.Request, err error) string {
	var failed *url.Error
	if errors.As(err, &failed) {
		if hop, err := url.Parse(failed.URL); err == nil && hop.Host != "" {
			return hop.Host
		}
	}
	return req.URL.Host
}

// takesCredentials reports whether an allowed URL is asked with Exotel's credentials: Exotel's own hosts over
// https, and the address that the Tenant names for Exotel's API, which gets them from backfill too. A signed URL
// needs none, and every other host, such as S3's, is not Exotel's.
func (s *source) takesCredentials(u *url.URL) bool {
	return !exotel.IsSigned(u) && (exotel.IsHost(u) || s.api != nil && sameService(u, s.api))
}

// sameService reports whether two URLs lead to the same port of the same host, with the same scheme.
func sameService(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

// portOf returns the URL's port, or the default of its scheme.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}

// answerFault reads what little of the answer helps to judge it and closes it.
func answerFault(resp *http.Response) *fault {
	defer func() { _ = resp.Body.Close() }()
	head, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what cannot be read does not help
	return statusFault(&resilience.HTTPError{
		Host:       resp.Request.URL.Host,
		Status:     resp.StatusCode,
		RetryAfter: resilience.RetryAfter(resp.Header, time.Now()),
	}, head)
}

// s3NotThere tells S3's refusals that mean "no such object": without the right to list, S3 answers 403 for those too.
func s3NotThere(body []byte) bool {
	return !expired(body) &&
		(bytes.Contains(body, []byte("<Code>AccessDenied</Code>")) || bytes.Contains(body, []byte("<Code>NoSuchKey</Code>")))
}

// expired reports whether an S3 error body says that a signed URL has expired.
func expired(body []byte) bool { return bytes.Contains(body, []byte("Request has expired")) }

// watched is a body that is cut when it brings nothing for too long.
type watched struct {
	io.ReadCloser
	ctx   context.Context
	stop  context.CancelCauseFunc
	timer *time.Timer
	after time.Duration
}

var errStalled = errors.New("no byte came for too long")

// watch ties a request's context to a body's progress: pass the context to the request, then the body to watch.
func newWatched(ctx context.Context, after time.Duration) *watched {
	w := &watched{after: after}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(after, func() { w.stop(errStalled) })
	w.timer.Stop()
	return w
}

// Read lets the clock run only while it waits: a slow reader of this body is not a stall of the source.
func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.after)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(w.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// Close ends the request.
func (w *watched) Close() error {
	w.timer.Stop()
	w.stop(context.Canceled)
	if w.ReadCloser == nil {
		return nil
	}
	return w.ReadCloser.Close()
}
