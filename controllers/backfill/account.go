package backfill

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/secret"
)

// patience is how long Exotel may ask to be left alone (429) without the run being put off.
const patience = time.Minute

// credentials of an Exotel account, for the duration of a run.
type credentials struct {
	base       string
	key, token calldetails.Secret
}

// readCredentials returns nil where the Secret is not as it must be: then the Tenant is not ready for long, and says why.
func (r *Reconciler) readCredentials(ctx context.Context, t *v1alpha1.Tenant) (*credentials, error) {
	var object corev1.Secret
	err := r.APIReader.Get(ctx, client.ObjectKey{
		Namespace: t.Namespace,
		Name:      t.Spec.Exotel.CredentialsSecretRef.Name,
	}, &object)
	if apierrors.IsNotFound(err) ||
		(err == nil && (len(object.Data["apiKey"]) == 0 || len(object.Data["apiToken"]) == 0)) {
		return nil, nil
	}
	if err != nil || !r.SecretLabel.Allows(object.Labels) {
		return nil, err
	}
	key := string(object.Data["apiKey"])
	token := string(object.Data["apiToken"])
	if secret.Fault(key) != "" || secret.Fault(token) != "" {
		return nil, nil
	}
	return &credentials{base: baseURL(t), key: calldetails.Secret(key), token: calldetails.Secret(token)}, nil
}

// baseURL returns the URL of Exotel's API: the spec's, or that of the region.
func baseURL(t *v1alpha1.Tenant) string {
	if u := t.Spec.Exotel.APIBaseURL; u != "" {
		return u
	}
	return calldetails.BaseURL(string(t.Spec.Exotel.Region))
}

// accountKey names a Tenant's account where it is asked for. Whoever claims another's account at an address of its own must not be
// able to keep the other waiting.
func accountKey(t *v1alpha1.Tenant) string {
	host := baseURL(t)
	if address, err := url.Parse(host); err == nil {
		host = strings.ToLower(address.Host)
	}
	return host + " " + t.Spec.Exotel.AccountSID
}

// digest changes when the Secret or the spec does.
func (c *credentials) digest(t *v1alpha1.Tenant) [32]byte {
	return sha256.Sum256(
		fmt.Appendf(
			nil, "%d %q %q %q %q", t.Generation, c.base, t.Spec.Exotel.AccountSID, string(c.key), string(c.token),
		),
	)
}

// newClient makes the run's client. Its errors are mistakes in the spec.
func (r *Reconciler) newClient(
	t *v1alpha1.Tenant,
	c *credentials,
	pace *calldetails.Pacer,
	count *counter,
) (*calldetails.Client, error) {
	address, err := url.Parse(c.base)
	if err != nil {
		return nil, fmt.Errorf(
			"spec.exotel.apiBaseURL is not a URL: use the scheme and host of Exotel's API, such as %s",
			calldetails.BaseURL(""),
		)
	}
	policy := r.Sources
	policy.Hosts = []string{address.Host} // whichever it is: what matters is the scheme, and no private address
	if err := policy.Validate(c.base); err != nil {
		return nil, fmt.Errorf(
			"spec.exotel.apiBaseURL may not be asked, by the policy for recordings' sources: %w", err,
		)
	}
	made, err := calldetails.New(calldetails.Config{
		BaseURL:   c.base,
		AllowHTTP: r.Sources.AllowHTTP,
		Account:   t.Spec.Exotel.AccountSID,
		Key:       c.key,
		Token:     c.token,
		Location:  location(t),
		Pace:      pace,
		Patience:  patience,
		Transport: count,
		// By address, so that the breaker which a wrong one opened is not in the way of the right one.
		Registry: r.Registry,
		Tenant:   t.ID() + " " + address.Host,
	})
	if err != nil {
		return nil, fmt.Errorf("spec.exotel: %w", err)
	}
	return made, nil
}

// location returns the account's time zone. The Tenant's own controller refuses invalid names.
func location(t *v1alpha1.Tenant) *time.Location {
	if loc, err := time.LoadLocation(t.Spec.Exotel.TimeZone); err == nil && t.Spec.Exotel.TimeZone != "" {
		return loc
	}
	return calldetails.IST
}

// counter counts requests as they go out, tries that are repeated included.
type counter struct {
	next    http.RoundTripper
	n       atomic.Int64
	metrics *Metrics
}

// RoundTrip counts and passes on.
func (c *counter) RoundTrip(req *http.Request) (*http.Response, error) {
	c.n.Add(1)
	c.metrics.requests.Inc()
	return c.next.RoundTrip(req)
}

// accounts holds the pace of each Exotel account in use. One run at a time has an account: two would get along no faster, and
// keep workers from other accounts.
type accounts struct {
	mu   sync.Mutex
	used map[string]*account
}

type account struct {
	pace *calldetails.Pacer
	busy bool
}

// take returns an account's pace, and nil while another run has it.
func (a *accounts) take(key string, interval time.Duration) *calldetails.Pacer {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, acc := range a.used {
		if k != key && !acc.busy && acc.pace.Idle() {
			delete(a.used, k)
		}
	}
	if a.used == nil {
		a.used = map[string]*account{}
	}
	acc := a.used[key]
	if acc == nil {
		acc = &account{pace: calldetails.NewPacer(interval)}
		a.used[key] = acc
	}
	if acc.busy {
		return nil
	}
	acc.busy = true
	return acc.pace
}

// release lets the next run of the account begin.
func (a *accounts) release(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if acc := a.used[key]; acc != nil {
		acc.busy = false
	}
}
