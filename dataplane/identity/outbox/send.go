package outbox

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
)

// Waits between tries double from the first to the last. Greylisting servers let a second try in after one to five minutes.
const (
	firstWait = 5 * time.Second
	lastWait  = 5 * time.Minute
)

// send brings one claimed message to an end or to its next try. It tells whether the SMTP server is in trouble.
func (d *Dispatcher) send(ctx context.Context, m *store.QueuedMail) (serverInTrouble bool) {
	// A pod that is told to go finishes what it has begun: to break it off would leave it uncertain.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Lease*2/3)
	defer cancel()
	if m.Template == string(mail.None) {
		d.finish(ctx, m, store.MailSent, "")
		return false
	}
	message, err := mail.Unseal(d.Key(), m.Tenant, m.OutboxMail)
	if err != nil {
		d.fail(ctx, m, err)
		return false
	}
	envelope := mail.Envelope{ID: mail.EventID(m.Tenant, m.EventKey), Date: m.CreatedAt}
	err = d.Sender.Send(
		ctx, message, envelope, func(ctx context.Context) error { return d.Store.SendMail(ctx, m, d.Lease) },
	)
	return d.settle(ctx, m, err)
}

// settle notes how a try went.
func (d *Dispatcher) settle(ctx context.Context, m *store.QueuedMail, err error) (serverInTrouble bool) {
	var failure *mail.Error
	if errors.As(err, &failure) && failure.Server {
		d.metrics.server(err)
	} else if err == nil {
		d.metrics.server(nil)
	}
	switch {
	case err == nil:
		d.metrics.count(m.Template, outcomeSent)
		d.finish(ctx, m, store.MailSent, "")
	case errors.As(err, &failure) && failure.Kind == mail.Permanent:
		d.fail(ctx, m, err)
	case errors.As(err, &failure) && failure.Kind == mail.Uncertain:
		d.Log.Warn("mail was given to the server and no answer came: it may have arrived, and is not sent again",
			"mail", m.ID,
			"tenant", m.Tenant,
			"template", m.Template,
			"error", err,
		)
		d.metrics.count(m.Template, outcomeUncertain)
		d.finish(ctx, m, store.MailUncertain, err.Error())
	case errors.Is(err, store.ErrLeaseLost):
		d.Log.Warn("mail was not sent: its lease or its time had run out", "mail", m.ID, "tenant", m.Tenant,
			"template", m.Template)
	default:
		d.retry(ctx, m, err)
	}
	return failure != nil && failure.Server
}

func (d *Dispatcher) fail(ctx context.Context, m *store.QueuedMail, err error) {
	d.Log.Warn("mail is not sent", "mail", m.ID, "tenant", m.Tenant, "template", m.Template, "error", err)
	d.metrics.count(m.Template, outcomeFailed)
	d.finish(ctx, m, store.MailFailed, err.Error())
}

func (d *Dispatcher) retry(ctx context.Context, m *store.QueuedMail, err error) {
	after := jittered(wait(m.Attempts))
	d.Log.Info("mail will be tried again",
		"mail", m.ID,
		"tenant", m.Tenant,
		"template", m.Template,
		"attempt", m.Attempts,
		"after", after,
		"error", err,
	)
	d.metrics.count(m.Template, outcomeRetried)
	d.note(ctx, m, func() error { return d.Store.RetryMail(ctx, m, after, reason(err.Error())) })
}

// wait returns the time until the next try, after a number of attempts.
func wait(attempts int) time.Duration {
	return min(firstWait<<min(max(attempts-1, 0), 16), lastWait)
}

func (d *Dispatcher) finish(ctx context.Context, m *store.QueuedMail, state store.MailState, why string) {
	d.note(ctx, m, func() error { return d.Store.FinishMail(ctx, m, state, reason(why)) })
}

// note writes down what has happened already, with some patience. If the database stays away, the lease runs out: what was being
// sent is uncertain then, and the rest is tried again.
func (d *Dispatcher) note(ctx context.Context, m *store.QueuedMail, write func() error) {
	for {
		err := write()
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
			d.Log.Warn("how the sending of mail went could not be noted",
				"mail", m.ID,
				"tenant", m.Tenant,
				"template", m.Template,
				"error", err,
			)
			return
		}
		d.pause(ctx, time.Second)
	}
}

// maxReason bounds what is kept of an error, in bytes.
const maxReason = 300

func reason(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxReason)], "") }
