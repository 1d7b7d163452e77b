package tenant

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Bounds of tokens.
const (
	// tokenLifetime is the shortest that the API server issues. A token is used once, at once.
	tokenLifetime = 10 * time.Minute
	// audienceCheckTTL is how long it is remembered that the API server does not accept an audience.
	audienceCheckTTL = time.Hour
	// maxServerText bounds what a status quotes of the API server, in bytes.
	maxServerText = 300
)

// The rights that this needs, to get ServiceAccounts and to create serviceaccounts/token, have no marker here: the
// chart gives them with storage.webIdentity.enabled alone.

// Identities obtains tokens of ServiceAccounts, and remembers the credentials that they were exchanged for.
type Identities struct {
	// Audiences that Tenants may ask for.
	Audiences []string
	// Client creates tokens.
	Client client.Client
	// Config reaches the API server, which must not accept the tokens itself.
	Config *rest.Config
	// Metrics counts what becomes of the exchanges.
	Metrics *IdentityMetrics

	mu     sync.Mutex
	held   map[string]*heldKey       // by Tenant
	faults map[string]identityFailed // by Tenant
	// rejectedAudiences are those that the API server does not accept, and when that was checked.
	rejectedAudiences map[string]time.Time
}

// heldKey is a set of temporary credentials.
type heldKey struct {
	tenantconfig.Temporary
	access, secret, token secret.Sensitive
}

type identityFailed struct {
	digest string
	fault  *reconcile.Stop
	until  time.Time
}

// get returns the temporary key of a Tenant, or nil if its identity has changed since.
func (i *Identities) get(id, digest string) *heldKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	if key := i.held[id]; key != nil && key.Identity == digest {
		return key
	}
	return nil
}

// save stores the temporary key of a Tenant and ends its backoff.
func (i *Identities) save(id string, key *heldKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.held == nil {
		i.held = map[string]*heldKey{}
	}
	i.held[id] = key
	delete(i.faults, id)
}

// fail remembers a failure until the retry is due: a Tenant may be reconciled at any time for other reasons.
func (i *Identities) fail(id, digest string, fault *reconcile.Stop, now time.Time) {
	result := resultFailed
	if fault.IsStalled() {
		result = resultDenied
	}
	i.Metrics.count(result)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.faults == nil {
		i.faults = map[string]identityFailed{}
	}
	i.faults[id] = identityFailed{digest: digest, fault: fault, until: now.Add(identityRetry - time.Second)}
}

// failed returns the failure that is remembered; nil if there is none.
func (i *Identities) failed(id, digest string, now time.Time) *reconcile.Stop {
	i.mu.Lock()
	defer i.mu.Unlock()
	if identityFailed, ok := i.faults[id]; ok && identityFailed.digest == digest && now.Before(identityFailed.until) {
		return identityFailed.fault
	}
	return nil
}

// forget removes what is known of a Tenant. It does nothing on nil.
func (i *Identities) forget(id string) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.held, id)
	delete(i.faults, id)
}

// doubt has credentials renewed that the store says have expired: its clock may be ahead. It does nothing for those
// that are younger than the wait between two tries, and on nil.
func (i *Identities) doubt(id string, now time.Time) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if key := i.held[id]; key != nil && now.After(key.Issued.Add(identityRetry)) {
		early := *key
		early.Renew = now
		i.held[id] = &early
	}
}

// earliest returns when the first of all credentials expires; the zero time if there are none.
func (i *Identities) earliest() (first time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, key := range i.held {
		if first.IsZero() || key.Expires.Before(first) {
			first = key.Expires
		}
	}
	return first
}

// token returns a token of a ServiceAccount for an audience which the API server does not accept.
func (i *Identities) token(ctx context.Context, account *corev1.ServiceAccount, audience string) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:         []string{audience},
		ExpirationSeconds: ptr.To(int64(tokenLifetime / time.Second)),
	}}
	err := i.Client.SubResource("token").Create(ctx, account, request)
	switch {
	case apierrors.IsForbidden(err):
		return "", reconcile.Stalled(v1alpha1.ReasonWebIdentityDisabled,
			"the operator may not create a token of ServiceAccount %q in namespace %q (%s): have the platform set "+
				"storage.webIdentity.enabled of the chart, or correct what forbids it", account.Name, account.Namespace,
			bounded.Text(err.Error(), maxServerText)).Again(identityRetry)
	case apierrors.IsNotFound(err):
		return "", reconcile.Stalled(v1alpha1.ReasonServiceAccountNotFound,
			"ServiceAccount %q, named by spec.recordings.webIdentity, does not exist in namespace %q: create it",
			account.Name, account.Namespace).Again(identityRetry)
	case err != nil:
		return "", fmt.Errorf("create a token of ServiceAccount %s: %w", account.Name, err)
	}
	return request.Status.Token, i.checkAudience(ctx, audience, request.Status.Token)
}

// checkAudience returns a *reconcile.Stop if the API server accepts the token. The STS, which the Tenant's author
// names, could act as the ServiceAccount with such a token. The platform's list of audiences alone does not show that:
// the API server's audiences are a flag of its own.
func (i *Identities) checkAudience(ctx context.Context, audience, token string) error {
	i.mu.Lock()
	at, known := i.rejectedAudiences[audience]
	i.mu.Unlock()
	if known && time.Since(at) < audienceCheckTTL {
		return nil
	}
	accepted, err := i.accepts(ctx, token)
	if err != nil {
		return fmt.Errorf("ask the API server whether it accepts the audience %q: %w", audience, err)
	}
	if accepted {
		return reconcile.Stalled(v1alpha1.ReasonAudienceNotAllowed,
			"spec.recordings.webIdentity.audience: %q is one of the API server's own audiences, so a token for it "+
				"would give access to the cluster; use another one, and have the platform remove it from "+
				"storage.webIdentity.audiences (--web-identity-audiences)", audience).Again(identityRetry)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.rejectedAudiences == nil {
		i.rejectedAudiences = map[string]time.Time{}
	}
	i.rejectedAudiences[audience] = time.Now()
	return nil
}

// accepts reports whether the API server takes a token. It answers 401 to a token that it does not, even for what
// everybody may read.
func (i *Identities) accepts(ctx context.Context, token string) (bool, error) {
	config := rest.AnonymousClientConfig(i.Config)
	config.BearerToken = token
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return false, err
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("version").String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return false, fmt.Errorf("the API server answered %d", resp.StatusCode)
	}
	return resp.StatusCode != http.StatusUnauthorized, nil
}
