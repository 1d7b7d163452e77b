// Package account is the accounts of a tenant's people: how they register, sign in, stay signed in and out, and set their passwords. No
// answer tells whether an account exists, and neither does how much work it was.
package account

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/identity/session"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/internal/keyring"
	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Lifetimes of what is mailed.
const (
	codeLifetime       = 10 * time.Minute
	resetLifetime      = 30 * time.Minute
	invitationLifetime = 7 * 24 * time.Hour
	// noticeLifetime is how long it makes sense to send a notice late.
	noticeLifetime = 24 * time.Hour
)

// Limiter counts tries. *ratelimit.Limiter is one.
type Limiter interface {
	Take(ctx context.Context, t *tenantconfig.Tenant, name ratelimit.Name, key string) ratelimit.Decision
	Blocked(t *tenantconfig.Tenant, name ratelimit.Name, key string) (ratelimit.Decision, bool)
	Return(ctx context.Context, t *tenantconfig.Tenant, d ratelimit.Decision, key string)
}

// Mail sends what is in the outbox. *outbox.Dispatcher is one.
type Mail interface {
	// Enabled tells whether mail is sent at all; Kick that there is some.
	Enabled() bool
	Kick()
}

// Options of New. Those up to Revoker are needed.
type Options struct {
	Store   *store.Dataplane
	Tokens  session.Minter
	Limiter Limiter
	Hasher  *password.Hasher
	// Ring returns the keyring, or nil while the pod has none.
	Ring func() *keyring.Ring
	// Revoker shuts out at once, on this pod, what was revoked; other pods read it from the database.
	Revoker session.Revoker
	// Mail sends what was written to the outbox; nil: something else does.
	Mail Mail
	// SessionIdle ends sessions that were not used for so long; 0 means session.DefaultIdle.
	SessionIdle time.Duration
	// Settle is how long after its question an answer comes that must not tell how much work it was; 0 means 100 ms.
	// It has to be longer than the work.
	Settle time.Duration
	Log    *slog.Logger
}

// Service runs the flows.
type Service struct {
	Options
	sessions *session.Manager
	logins   *gate
}

// New makes a service.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.SessionIdle <= 0 {
		o.SessionIdle = session.DefaultIdle
	}
	if o.Settle <= 0 {
		o.Settle = 100 * time.Millisecond
	}
	return &Service{
		Options:  o,
		logins:   newGate(o.Hasher.Capacity()),
		sessions: &session.Manager{Store: o.Store, Tokens: o.Tokens, Revoker: o.Revoker, Idle: o.SessionIdle},
	}
}

// settle waits until an answer is due to a question that came at start. A few statements more or less for an account
// that exists would show in the median of many answers.
func (s *Service) settle(ctx context.Context, start time.Time) {
	timer := time.NewTimer(s.Settle - time.Since(start))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// canMail returns a problem where nobody would be sent what the flow is about to write.
func (s *Service) canMail() error {
	if s.Mail != nil && !s.Mail.Enabled() {
		return problem.New(problem.Unavailable, "the platform has no mail server configured, so no mail can be sent")
	}
	return nil
}

// posted tells that a flow wrote mail, unless it failed.
func (s *Service) posted(err error) error {
	if errors.Is(err, store.ErrMailFull) {
		return problem.New(
			problem.Unavailable, "too much mail waits to be sent; retry later",
		).WithRetryAfter(time.Minute)
	}
	if err == nil && s.Mail != nil {
		s.Mail.Kick()
	}
	return err
}

// originOf is who asks, and from where.
func originOf(ctx context.Context) store.Origin {
	origin := store.Origin{Address: api.ClientOf(ctx), Device: api.DeviceOf(ctx), RequestID: api.RequestID(ctx)}
	if principal := api.PrincipalOf(ctx); principal != nil {
		origin.ActorID = principal.UserID
		origin.SessionID = principal.SessionID
	}
	return origin
}

// ring is the keyring, or a problem while there is none.
func (s *Service) ring() (*keyring.Ring, error) {
	if r := s.Ring(); r != nil {
		return r, nil
	}
	return nil, problem.New(problem.Unavailable, "the pod has no keys yet; retry later").WithRetryAfter(time.Second)
}

// addressKey is what a client's tries are counted by. Whoever has one IPv6 address has a network of them.
func addressKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if prefix, err := a.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return a.String()
}

// networkKey is what the tries of a client's network are counted by: a /48 of IPv6, which is what a provider gives one
// customer at most, and otherwise the address.
func networkKey(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if prefix, err := a.Prefix(48); err == nil {
			return prefix.String()
		}
	}
	return a.String()
}

// byAddress is a limit that counts the tries of the client's address, and of its network where that is larger. prefix
// is what the key has before the address.
func byAddress(name ratelimit.Name, prefix string, a netip.Addr) []limited {
	limits := []limited{{name, prefix + addressKey(a)}}
	if a.Unmap().Is6() {
		limits = append(limits, limited{name.Network(), prefix + networkKey(a)})
	}
	return limits
}

// limited is one limit and the key that it counts.
type limited struct {
	name ratelimit.Name
	key  string
}

// counted is a try that was counted under a limit.
type counted struct {
	decision ratelimit.Decision
	key      string
}

// take counts a try under each limit in turn, and refuses it at the first that is used up. Those that are known to be are looked at before
// any is counted: a client that is blocked costs no work.
func (s *Service) take(ctx context.Context, t *tenantconfig.Tenant, limits ...limited) error {
	_, err := s.count(ctx, t, limits...)
	return err
}

// count is take for a try that forgive may take back.
func (s *Service) count(ctx context.Context, t *tenantconfig.Tenant, limits ...limited) (tries []counted, err error) {
	if err := s.blocked(t, limits...); err != nil {
		return nil, err
	}
	for _, l := range limits {
		decision := s.Limiter.Take(ctx, t, l.name, l.key)
		if !decision.Allowed {
			return nil, tooMany(decision)
		}
		tries = append(tries, counted{decision, l.key})
	}
	return tries, nil
}

// forgive takes back what was counted for a try that turned out to be right: only wrong ones are guesses.
func (s *Service) forgive(ctx context.Context, t *tenantconfig.Tenant, tries []counted) {
	for _, c := range tries {
		s.Limiter.Return(ctx, t, c.decision, c.key)
	}
}

func (s *Service) blocked(t *tenantconfig.Tenant, limits ...limited) error {
	for _, l := range limits {
		if decision, blocked := s.Limiter.Blocked(t, l.name, l.key); blocked {
			return tooMany(decision)
		}
	}
	return nil
}

// countOfTenant counts a try under a limit of the whole tenant. Beyond it, each network of addresses still has the
// tries of TenantBeyond: an attacker can use up the tenant's limit, and not the tries of the tenant's people.
//
// action is what is tried, for the audit log.
func (s *Service) countOfTenant(ctx context.Context, t *tenantconfig.Tenant, name ratelimit.Name, action string) (
	tries []counted, err error,
) {
	d, used := s.Limiter.Blocked(t, name, "")
	if !used {
		d = s.Limiter.Take(ctx, t, name, "")
	}
	if d.Allowed {
		return []counted{{decision: d}}, nil
	}
	s.alert(ctx, t, d, action)
	beyond := string(name) + "\x00" + networkKey(originOf(ctx).Address)
	return s.count(ctx, t, limited{ratelimit.TenantBeyond, beyond})
}

// alert writes to the audit log that a limit of the tenant is used up, once an hour over all pods.
func (s *Service) alert(ctx context.Context, t *tenantconfig.Tenant, d ratelimit.Decision, action string) {
	if _, told := s.Limiter.Blocked(t, ratelimit.TenantAlert, string(d.Name)); told {
		return
	}
	if !s.Limiter.Take(ctx, t, ratelimit.TenantAlert, string(d.Name)).Allowed {
		return
	}
	reason := fmt.Sprintf("%s: %d in %s are used up", d.Name, d.Limit.Requests, d.Limit.Window)
	s.Log.WarnContext(ctx, "a limit of a tenant is used up", "tenant", t.ID, "limit", d.Name)
	if err := s.audit(ctx, t, action, "", reason); err != nil {
		s.Log.WarnContext(ctx, "a limit of a tenant is used up, which the audit log lacks",
			"tenant", t.ID,
			"error", err,
		)
	}
}

func tooMany(d ratelimit.Decision) error {
	header := http.Header{}
	d.SetHeaders(header)
	p := problem.New(problem.RateLimited, "too many attempts; wait for the time in Retry-After")
	p.Header = header
	return p
}

// busy explains what the hasher refused; other errors pass.
func busy(err error) error {
	if err == password.ErrBusy { //nolint:errorlint // the hasher returns it bare
		return problem.New(problem.Unavailable,
			"too many users are signing in; retry later").WithRetryAfter(2 * time.Second)
	}
	return err
}

// audit writes down what failed. Whoever hangs up is written down all the same.
func (s *Service) audit(ctx context.Context, t *tenantconfig.Tenant, action, subject, reason string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.Store.WriteAudit(ctx, t.ID, store.Audit{
		Origin:  originOf(ctx),
		Action:  action,
		Outcome: store.OutcomeFailure,
		Subject: subject,
		Reason:  reason,
	})
}

// revoke shuts sessions out on this pod at once.
func (s *Service) revoke(t *tenantconfig.Tenant, sessions ...string) {
	if s.Revoker == nil {
		return
	}
	for _, id := range sessions {
		s.Revoker.Revoke(t.ID, "", id)
	}
}

// invalid refuses a request over one field.
func invalid(field, message string) error {
	return problem.New(problem.Validation, "the request is not valid").WithField("/"+field, message)
}
