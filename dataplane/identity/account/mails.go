package account

import (
	"context"
	"net/url"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// post makes mail of one event.
type post struct {
	ring *keyring.Ring
	t    *tenantconfig.Tenant
}

// seal makes the outbox's row. The event is this one: the same mail for another request is another event.
func (p post) seal(template mail.Template, to string, data mail.Data, ttl time.Duration) (*store.OutboxMail, error) {
	data.Service = p.service()
	row, err := mail.Seal(p.ring.Derive(keyring.PurposeMail), p.t.ID, mail.Message{
		Template: template,
		To:       to,
		Data:     data,
	}, string(template)+"/"+store.NewID(), ttl)
	if err != nil {
		return nil, err
	}
	return &row, nil
}

// either seals a message and what is put into the outbox in its place when it must not be sent.
func (p post) either(
	template, other mail.Template,
	to string,
	data mail.Data,
	ttl time.Duration,
) (real, instead *store.OutboxMail, err error) {
	if real, err = p.seal(template, to, data, ttl); err != nil {
		return nil, nil, err
	}
	instead, err = p.seal(other, to, mail.Data{}, ttl)
	return real, instead, err
}

// notice tells a user of something that was done to the account, once it is known whose it is.
func (p post) notice(ctx context.Context, template mail.Template) store.MailFor {
	data := mail.Data{At: time.Now(), Device: api.DeviceOf(ctx)}
	if addr := api.ClientOf(ctx); addr.IsValid() {
		data.Address = addr.String()
	}
	return func(u store.User) (*store.OutboxMail, error) { return p.seal(template, u.Email, data, noticeLifetime) }
}

// service is whom mail speaks for.
func (p post) service() string {
	if len(p.t.Auth.Hosts) > 0 {
		return p.t.Auth.Hosts[0]
	}
	return p.t.ID
}

// resetData carries a token, as a link where the tenant has a host that serves one.
func (p post) resetData(token string, validFor time.Duration) mail.Data {
	if len(p.t.Auth.Hosts) == 0 {
		return mail.Data{Code: secret.Sensitive(token), ValidFor: validFor}
	}
	u := url.URL{
		Scheme:   "https",
		Host:     p.t.Auth.Hosts[0],
		Path:     "/reset-password",
		RawQuery: url.Values{"token": {token}}.Encode(),
	}
	return mail.Data{Link: secret.Sensitive(u.String()), ValidFor: validFor}
}
