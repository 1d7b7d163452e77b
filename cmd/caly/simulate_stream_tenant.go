package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// entrance is where a Tenant's streams go, and what opens it.
type entrance struct {
	server   string // base URL of the data plane
	token    string // of the Tenant's own; empty without
	query    string // the parameter that also takes the token
	user     *url.Userinfo
	oneTime  bool // a token for each call is asked for first
	tenantID string
}

// tenantAddress is what stands in the applet of a Tenant: made from --server and --secret-file, or from what the cluster says.
func (o streamOptions) tenantAddress(ctx context.Context) (string, error) {
	if _, _, err := splitTenant(o.tenant); err != nil {
		return "", err
	}
	if o.server == "" {
		if o.secretFile != "" {
			return "", errors.New("--secret-file is for --server: without that, secrets are read from the cluster")
		}
		e, err := lookUpEntrance(ctx, o.tenant)
		if err != nil {
			return "", err
		}
		e.oneTime = e.oneTime || o.oneTime
		return e.url()
	}
	token, err := readLine(o.secretFile)
	if err != nil {
		return "", err
	}
	return entrance{
		server:   o.server,
		token:    token,
		query:    tenantconfig.DefaultTokenQuery,
		oneTime:  o.oneTime,
		tenantID: o.tenant,
	}.url()
}

// url is the address, for the scheme that asks for a stream or for its URL.
func (e entrance) url() (string, error) {
	address, err := url.Parse(e.server)
	if err != nil || address.Host == "" {
		return "", errors.New("--server must be an address such as wss://caly.example.com")
	}
	if address.User != nil {
		return "", errors.New(
			"--server must carry no credentials, which others can see: give --secret-file, or the whole address in --url-file",
		)
	}
	secure := map[string]bool{"wss": true, "https": true, "ws": false, "http": false}
	tls, known := secure[address.Scheme]
	if !known {
		return "", fmt.Errorf("--server must begin with wss://, https://, ws:// or http://, not %s://", address.Scheme)
	}
	path := []string{"audio", "exotel", e.tenantID}
	schemes := map[bool]string{true: "wss", false: "ws"}
	if e.oneTime {
		path = append(path, "url")
		schemes = map[bool]string{true: "https", false: "http"}
	}
	address.Scheme = schemes[tls]
	address.User = e.user
	address.RawQuery = ""
	switch {
	case strings.ContainsRune(e.token, '/'): // no element of a path
		address.RawQuery = url.Values{e.query: {e.token}}.Encode()
	case e.token != "":
		path = append(path, url.PathEscape(e.token))
	}
	return address.JoinPath(path...).String(), nil
}

// lookUpEntrance reads where a Tenant's streams go, and the first secret that lets them in.
func lookUpEntrance(ctx context.Context, id string) (entrance, error) {
	c, t, err := readTenant(ctx, id)
	if err != nil {
		return entrance{}, err
	}
	if t.Spec.Audio == nil {
		return entrance{}, fmt.Errorf("tenant %s takes no audio streams: give it spec.audio", id)
	}
	base, _, ok := strings.Cut(webhookURL(t, eventStatus), v1alpha1.WebhookPathPrefix)
	if !ok {
		return entrance{}, fmt.Errorf(
			"tenant %s has no address yet: see kubectl describe tenant -n %s %s, or give --server",
			id,
			t.Namespace,
			t.Name,
		)
	}
	e := entrance{server: base, tenantID: id, query: tenantconfig.DefaultTokenQuery}
	token := t.Spec.Webhooks.Token
	basic := t.Spec.Webhooks.BasicAuth
	if v := t.Spec.Audio.Verification; v != nil {
		e.oneTime = v.OneTimeToken != nil && *v.OneTimeToken
		if own := (v.TokenSecretRef != nil || v.BasicAuthSecretRef != nil || len(v.AllowedCIDRs) > 0); own {
			token, basic = ownVerifiers(v)
		}
	}
	return e.with(ctx, c, t, token, basic)
}

// ownVerifiers returns the verifiers that the Tenant sets for audio only.
func ownVerifiers(v *v1alpha1.AudioVerification) (token *v1alpha1.TokenSpec, basic *v1alpha1.BasicAuthSpec) {
	if v.TokenSecretRef != nil {
		token = &v1alpha1.TokenSpec{SecretRef: *v.TokenSecretRef}
	}
	if v.BasicAuthSecretRef != nil {
		basic = &v1alpha1.BasicAuthSpec{SecretRef: *v.BasicAuthSecretRef}
	}
	return token, basic
}

// with adds the secrets of all verifiers, so that they do whether any or all of them must accept.
func (e entrance) with(
	ctx context.Context,
	c client.Reader,
	t *v1alpha1.Tenant,
	token *v1alpha1.TokenSpec,
	basic *v1alpha1.BasicAuthSpec,
) (entrance, error) {
	if token != nil {
		_, value, err := firstSecret(ctx, c, t, token.SecretRef, "token")
		if err != nil {
			return e, err
		}
		e.token = value
		if token.Query != "" {
			e.query = token.Query
		}
	}
	if basic != nil {
		user, password, err := firstSecret(ctx, c, t, basic.SecretRef, "password")
		if err != nil {
			return e, err
		}
		e.user = url.UserPassword(user, password)
	}
	return e, nil
}
