package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Groups that the API server gives to users by itself.
const (
	groupAuthenticated   = "system:authenticated"
	groupUnauthenticated = "system:unauthenticated"
	userAnonymous        = "system:anonymous"
)

// tokenLifetime is how long an authenticated token is believed without another review. Rejections are not remembered.
const tokenLifetime = 10 * time.Second

// User is an authenticated caller, as a SubjectAccessReview names one.
type User struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
	// By is the name of the user that impersonates this one; empty without impersonation.
	By string
}

// authenticator finds out who sends a request.
type authenticator struct {
	client client.Client
	ca     *clientCA
	// tokens has the users of the tokens of the last seconds, by a keyed digest.
	tokens  *lru.Cache
	key     []byte
	reviews *rate.Limiter
	now     func() time.Time
}

func newAuthenticator(c client.Client, reader client.Reader) *authenticator {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return &authenticator{
		client:  c,
		ca:      &clientCA{reader: reader, now: time.Now},
		tokens:  lru.New(maxUsers),
		key:     key,
		reviews: rate.NewLimiter(reviews, burstOfReviews),
		now:     time.Now,
	}
}

// knownToken is a token's user.
type knownToken struct {
	user  User
	until time.Time
}

// authenticate returns the user of a request, in the order of the API server: a valid client certificate first, then a
// token. Without either the request is not authenticated.
func (a *authenticator) authenticate(ctx context.Context, r *http.Request) (User, error) {
	var rejected string
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		user, err := a.certificate(ctx, r.TLS.PeerCertificates)
		if err == nil {
			return user, nil
		}
		rejected = err.Error()
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); token != "" && strings.EqualFold(scheme, "Bearer") {
		return a.token(ctx, token)
	}
	if rejected != "" {
		return User{}, unauthorized(rejected)
	}
	return User{}, unauthorized("the request has neither a bearer token nor a client certificate; " +
		"user names and passwords are not supported")
}

// certificate returns the user of a client certificate that the cluster's authority signed for clients: the common
// name, with the organizations as groups.
func (a *authenticator) certificate(ctx context.Context, chain []*x509.Certificate) (User, error) {
	roots, err := a.ca.pool(ctx)
	if err != nil {
		return User{}, fmt.Errorf("client certificates cannot be verified now: %w", err)
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   a.now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return User{}, fmt.Errorf("the client certificate is not valid: %w", err)
	}
	subject := chain[0].Subject
	if subject.CommonName == "" {
		return User{}, fmt.Errorf("the client certificate has no common name, which would name the user")
	}
	return authenticated(User{Name: subject.CommonName, Groups: slices.Clone(subject.Organization)}), nil
}

// token returns the user of a bearer token, as the API server knows it.
func (a *authenticator) token(ctx context.Context, token string) (User, error) {
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(token))
	digest := string(mac.Sum(nil))
	if known, ok := a.tokens.Get(digest); ok && a.now().Before(known.(knownToken).until) {
		return known.(knownToken).user, nil
	}
	if !a.reviews.Allow() {
		return User{}, apierrors.NewTooManyRequests("too many tokens are being verified; retry later", 1)
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := a.client.Create(ctx, review); err != nil {
		return User{}, unreviewed("TokenReview", err)
	}
	if !review.Status.Authenticated || review.Status.User.Username == "" {
		return User{}, unauthorized("the API server does not accept the bearer token")
	}
	said := review.Status.User
	user := User{Name: said.Username, UID: said.UID, Groups: said.Groups}
	for key, values := range said.Extra {
		if user.Extra == nil {
			user.Extra = map[string][]string{}
		}
		user.Extra[key] = values
	}
	user = authenticated(user)
	a.tokens.Add(digest, knownToken{user, a.now().Add(tokenLifetime)})
	return user, nil
}

// authenticated adds the group of all authenticated users, as the API server does.
func authenticated(u User) User {
	if u.Name != userAnonymous && !slices.Contains(u.Groups, groupAuthenticated) &&
		!slices.Contains(u.Groups, groupUnauthenticated) {
		u.Groups = append(slices.Clip(u.Groups), groupAuthenticated)
	}
	return u
}

// Where the API server publishes the authority of client certificates.
const (
	caNamespace = "kube-system"
	caName      = "extension-apiserver-authentication"
	caKey       = "client-ca-file"
)

const (
	// caLifetime is how long the authority is used without being read again, and caPatience how long when it cannot be.
	caLifetime = time.Minute
	caPatience = 10 * time.Minute
)

// clientCA is the cluster's authority of client certificates.
type clientCA struct {
	reader client.Reader
	now    func() time.Time

	mu    sync.Mutex
	roots *x509.CertPool
	read  time.Time
}

// pool returns the certificates of the authority.
func (c *clientCA) pool(ctx context.Context) (*x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := c.now().Sub(c.read)
	if c.roots != nil && age < caLifetime {
		return c.roots, nil
	}
	roots, err := c.load(ctx)
	switch {
	case err == nil:
		c.roots = roots
		c.read = c.now()
	case c.roots == nil || age > caPatience:
		return nil, err
	}
	return c.roots, nil
}

// load reads the authority from the cluster.
func (c *clientCA) load(ctx context.Context) (*x509.CertPool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	config := &corev1.ConfigMap{}
	if err := c.reader.Get(ctx, client.ObjectKey{Namespace: caNamespace, Name: caName}, config); err != nil {
		return nil, fmt.Errorf("read ConfigMap %s/%s: %w", caNamespace, caName, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(config.Data[caKey])) {
		return nil, fmt.Errorf("ConfigMap %s/%s has no certificate in %s: this cluster does not accept client "+
			"certificates; use a token", caNamespace, caName, caKey)
	}
	return roots, nil
}
