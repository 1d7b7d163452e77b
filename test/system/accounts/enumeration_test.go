package accounts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/password"
	"github.com/caly-dev/caly/internal/store"
)

// guesses of an unknown email, and of the kind that means most to the flow, are sent to each. Of other kinds fewer are
// sent, still enough to show another answer.
const (
	guesses    = 100
	fewGuesses = 20
	guessers   = 4 // at the same time
)

// kinds of emails that somebody may guess, with what there is of each.
const (
	unknown    = "unknown"
	verified   = "verified"
	unverified = "unverified" // with a code that waits
	invited    = "invited"    // without a password
	disabled   = "disabled"
)

// guessing is how a flow is asked.
type guessing struct {
	known string
	with  func(email string) request
}

// TestEnumeration checks that neither the answer nor its time shows whether an email has an account, and of what kind.
// It does not run in parallel with others, for the sake of the times.
func TestEnumeration(t *testing.T) {
	platform := newPlatform(t, setup{args: wideLimits()})
	platform.populate(t)
	for flow, how := range map[string]guessing{
		"register":        {verified, withFields("register", fields{"password": secondPassword})},
		"login":           {verified, withFields("login", fields{"password": secondPassword})},
		"forgot-password": {verified, withFields("forgot-password", fields{})},
		"resend-code":     {unverified, withFields("resend-code", fields{})},
		"verify-email":    {unverified, withFields("verify-email", fields{"code": "123456"})},
	} {
		t.Run(flow, func(t *testing.T) {
			var told string
			for range 3 { // a machine may have a bad moment
				if told = platform.guess(t, how).compare(t, how.known); told == "" {
					return
				}
			}
			t.Errorf("the time tells: %s", told)
		})
	}
}

func withFields(flow string, more fields) func(email string) request {
	return func(email string) request {
		body := maps.Clone(more)
		body["email"] = email
		return request{path: "/api/auth/" + flow, body: body}
	}
}

// emailOf is the i-th of a kind. The unknown ones are never the same: registering makes them known.
func emailOf(kind string, i int) string { return fmt.Sprintf("%s-%d@acme.example", kind, i) }

// populate makes accounts of each kind. Those that wait for a code have one that nobody knows.
func (p *platform) populate(t *testing.T) {
	t.Helper()
	hash, err := password.NewHasher(password.Options{}).Hash(t.Context(), firstPassword)
	if err != nil {
		t.Fatal(err)
	}
	for i := range guesses {
		for kind, values := range map[string][]any{
			verified:   {true, hash, false},
			unverified: {false, hash, false},
			invited:    {false, "", false},
			disabled:   {true, hash, true},
		} {
			p.exec(t, `INSERT INTO users (tenant, id, email, role, email_verified_at, password_hash, disabled_at)
				VALUES ($1, $2, $3, 'viewer', CASE WHEN $4 THEN now() END, $5, CASE WHEN $6 THEN now() END)`,
				append([]any{acme, store.NewID(), emailOf(kind, i)}, values...)...)
		}
	}
	p.exec(t, `INSERT INTO email_codes (tenant, user_id, code_hash, expires_at)
		SELECT tenant, id, decode(repeat('ab', 32), 'hex'), now() + interval '1 hour' FROM users
			WHERE email LIKE 'unverified-%'`)
}

// guessed is what there was to see, by kind.
type guessed struct {
	mu     sync.Mutex
	shapes map[string]map[string]bool
	took   map[string][]time.Duration
}

// turn keeps the unknown emails of one run from those of another, which may be known by now.
var turn int

// guess sends the kinds in turn, so that whatever else happens on the machine befalls all of them.
func (p *platform) guess(t *testing.T, how guessing) *guessed {
	t.Helper()
	turn++
	g := &guessed{shapes: map[string]map[string]bool{}, took: map[string][]time.Duration{}}
	var all sync.WaitGroup
	for first := range guessers {
		all.Go(func() {
			for i := first; i < guesses; i += guessers {
				kinds := []string{unknown, how.known}
				if i/guessers%2 == 1 {
					slices.Reverse(kinds)
				}
				if i < fewGuesses {
					kinds = append(kinds, verified, unverified, invited, disabled)
				}
				for _, kind := range kinds {
					g.one(t, p, how, kind, i)
				}
			}
		})
	}
	all.Wait()
	return g
}

func (g *guessed) one(t *testing.T, p *platform, how guessing, kind string, i int) {
	email := emailOf(kind, i)
	if kind == unknown {
		email = fmt.Sprintf("%s-%d-%d@acme.example", kind, turn, i)
	}
	request := how.with(email)
	request.pod = p.pods[0]
	began := time.Now()
	answer, err := p.try(t.Context(), request)
	took := time.Since(began)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		t.Error(err)
		return
	}
	if g.shapes[kind] == nil {
		g.shapes[kind] = map[string]bool{}
	}
	g.shapes[kind][shape(answer)] = true
	g.took[kind] = append(g.took[kind], took)
}

// shape is all of an answer that is not its time or its name.
func shape(a answer) string {
	return fmt.Sprintln(
		a.status, strings.Join(slices.Sorted(maps.Keys(a.header)), " "), a.header.Get("Content-Length"), a.raw(),
	)
}

// compare fails the test where answers differ, and returns where the time does.
func (g *guessed) compare(t *testing.T, known string) (told string) {
	t.Helper()
	want := slices.Sorted(maps.Keys(g.shapes[unknown]))
	if len(want) != 1 || !strings.HasPrefix(want[0], "202 ") && !strings.HasPrefix(want[0], "40") {
		t.Fatalf("the answers for unknown emails are %q", want)
	}
	for kind, shapes := range g.shapes {
		if got := slices.Sorted(maps.Keys(shapes)); !slices.Equal(got, want) {
			t.Fatalf("%s is answered %q, unknown %q", kind, got, want)
		}
	}
	wait := median(g.took[known])
	b := median(g.took[unknown])
	told = fmt.Sprintf("%s takes %s, unknown %s", known, wait, b)
	t.Log(told)
	if ratio := float64(wait) / float64(b); ratio > 0.8 && ratio < 1.25 || (wait-b).Abs() < 3*time.Millisecond {
		return ""
	}
	return told
}

func median(of []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}
