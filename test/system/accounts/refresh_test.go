package accounts

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/identity/session"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// testFiftyRefreshes verifies that tabs that refresh at the same moment get the same token from any pod.
func (p *platform) testFiftyRefreshes(t *testing.T) {
	jane := p.enroll(t, acme, "fifty@acme.example", firstPassword)
	const tabs = 50
	answers := make([]answer, tabs)
	errs := make([]error, tabs)
	var all sync.WaitGroup
	for i := range tabs {
		all.Go(func() {
			answers[i], errs[i] = p.try(t.Context(), request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": jane.RefreshToken},
			})
		})
	}
	all.Wait()
	given := map[string]int{}
	var last tokens
	for i, a := range answers {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		a.want(t, 200).into(t, &last)
		given[last.RefreshToken]++
	}
	if len(given) != 1 || last.RefreshToken == jane.RefreshToken {
		t.Fatalf("%d different tokens are given", len(given))
	}
	p.aliveEverywhere(t, last.AccessToken)
	p.refreshed(t, acme, last.RefreshToken)
}

// later lets the reuse interval of somebody's sessions pass.
func (p *platform) later(t *testing.T, userID string) {
	t.Helper()
	p.exec(
		t,
		"UPDATE login_sessions SET rotated_at = rotated_at - $2::interval WHERE user_id = $1",
		userID,
		session.ReuseInterval+time.Second,
	)
}

// testReuse verifies that a token that is two generations old ends the session, also within the reuse interval.
func (p *platform) testReuse(t *testing.T) {
	for name, wait := range map[string]bool{"at once": false, "later": true} {
		t.Run(name, func(t *testing.T) {
			jane := p.enroll(t, acme, fmt.Sprintf("reuse-%t@acme.example", wait), firstPassword)
			bystander := p.login(t, acme, jane.email, jane.password)
			second := p.refreshed(t, acme, jane.RefreshToken)
			third := p.refreshed(t, acme, second.RefreshToken)
			if wait {
				p.later(t, jane.User.ID)
			}
			p.refreshRefused(t, acme, jane.RefreshToken)
			p.refreshRefused(t, acme, third.RefreshToken)
			p.refreshRefused(t, acme, second.RefreshToken)
			for _, of := range []tokens{jane.tokens, second, third} {
				p.deadEverywhere(t, of.AccessToken)
			}
			p.mailTo(t, jane.email, subjectEndedByUs)
			p.refreshed(t, acme, bystander.RefreshToken) // another session of the same person
			if n := p.count(
				t, "SELECT count(*) FROM audit_log WHERE action = 'refresh_reuse' AND subject = $1", jane.email,
			); n != 1 {
				t.Errorf("%d rows of the audit log tell of it", n)
			}
		})
	}
}

// testLostAnswers verifies that a client that lost an answer sends the old token again and gets the same new token. A
// client that does so twice in a row loses the session.
func (p *platform) testLostAnswers(t *testing.T) {
	jane := p.enroll(t, acme, "lost@acme.example", firstPassword)
	lost := p.refreshed(t, acme, jane.RefreshToken) // nobody sees this
	if again := p.refreshed(t, acme, jane.RefreshToken); again.RefreshToken != lost.RefreshToken {
		t.Error("within the reuse interval another token is given")
	}
	p.later(t, jane.User.ID)
	again := p.refreshed(t, acme, jane.RefreshToken)
	if again.RefreshToken != lost.RefreshToken {
		t.Error("after the reuse interval another token is given")
	}
	next := p.refreshed(t, acme, again.RefreshToken)
	p.later(t, jane.User.ID)
	p.refreshRefused(t, acme, again.RefreshToken)
	p.refreshRefused(t, acme, next.RefreshToken)
	p.deadEverywhere(t, next.AccessToken)
}

// testKilledWhileRotating verifies that no client loses its session when a pod is killed during refreshes. Half of the
// refreshes are committed and their answers lost. The kill interrupts the other half at any point.
func (p *platform) testKilledWhileRotating(t *testing.T) {
	const half = 10
	jane := p.enroll(t, acme, "killed@acme.example", firstPassword)
	clients := []tokens{jane.tokens}
	for len(clients) < 2*half {
		clients = append(clients, p.login(t, acme, jane.email, jane.password))
	}
	victim := p.pods[len(p.pods)-1]
	way := newWire(t, victim.Public)
	way.become(deaf)
	answers := make([]answer, len(clients))
	heard := make(chan struct{}, len(clients))
	var all sync.WaitGroup
	send := func(i int, to *accountsPod) {
		all.Go(func() {
			// An error is the kill's doing: the answer stays empty.
			answers[i], _ = p.try(t.Context(), request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": clients[i].RefreshToken},
				pod:  to,
			})
			heard <- struct{}{}
		})
	}
	for i := range half {
		send(i, &accountsPod{&calytest.DataPlane{Public: way.address}, nil})
	}
	eventually.Holds(t, "the refreshes are committed", func() bool {
		return p.count(
			t, "SELECT count(*) FROM login_sessions WHERE user_id = $1 AND counter = 2", jane.User.ID,
		) == half
	})
	for i := range half {
		send(half+i, victim)
	}
	<-heard
	victim.p.Kill()
	all.Wait()
	p.later(t, jane.User.ID)
	p.allGoOn(t, clients, answers)
	victim.p = victim.Start()
	p.await(t, victim)
}

// allGoOn sends clients without an answer to another pod with the old token.
func (p *platform) allGoOn(t *testing.T, clients []tokens, answers []answer) {
	t.Helper()
	unheard := 0
	for i, c := range clients {
		a := answers[i]
		if a.status == 0 {
			unheard++
			a = p.do(t, request{
				path: "/api/auth/refresh",
				body: fields{"refreshToken": c.RefreshToken},
				pod:  p.pods[i%(len(p.pods)-1)],
			})
		}
		var now tokens
		a.want(t, 200).into(t, &now)
		q := request{
			path: "/api/auth/refresh",
			body: fields{"refreshToken": now.RefreshToken},
			pod:  p.pods[i%(len(p.pods)-1)],
		}
		p.do(t, q).want(t, 200)
	}
	committed := p.count(
		t, "SELECT count(*) FROM login_sessions WHERE user_id = $1 AND recovered > 0", clients[0].User.ID,
	)
	t.Logf("of %d refreshes %d were not answered, and %d of those had been committed", len(clients), unheard, committed)
	if unheard == len(clients) || committed < len(clients)/2 {
		t.Error("this proves nothing")
	}
}
