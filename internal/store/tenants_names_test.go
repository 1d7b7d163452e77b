package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/internal/store"
)

func host(name string) store.Name { return store.Name{Kind: store.NameHost, Name: name} }

var sharedAccount = store.Name{Kind: store.NameAccount, Name: "acme1"}

// claims gives names to a tenant and returns those that it holds then.
func (f *fixture) claims(t *testing.T, tenant, uid string, names ...store.Name) []store.Name {
	t.Helper()
	held, err := f.Operator.ClaimNames(t.Context(), tenant, uid, names)
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// releases takes all names from a tenant except those to keep.
func (f *fixture) releases(t *testing.T, tenant, uid string, keep ...store.Name) []store.Name {
	t.Helper()
	released, err := f.Operator.ReleaseNames(t.Context(), tenant, uid, keep)
	if err != nil {
		t.Fatal(err)
	}
	return released
}

func TestNamesHaveOneOwner(t *testing.T) {
	fixture := newFixture(t)
	name := host("a.example")
	b := host("b.example")
	check := func(what string, got []store.Name, want ...store.Name) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("the first claim", fixture.claims(t, acme, "u1", name, name), name)
	check("the same claim again", fixture.claims(t, acme, "u1", name), name)
	check("a later claim of another tenant", fixture.claims(t, globex, "u2", name, b), b)
	check("names of another kind", fixture.claims(t, globex, "u2", store.Name{
		Kind: store.NameNumber,
		Name: "a.example",
	}),
		b, store.Name{Kind: store.NameNumber, Name: "a.example"})
	check("a release by another Tenant of the same name", fixture.releases(t, acme, "u0"))
	check("a release that keeps all", fixture.releases(t, acme, "u1", name))
	check("a release", fixture.releases(t, acme, "u1"), name)
	check("a claim after the release", fixture.claims(t, globex, "u2", name),
		name, b, store.Name{Kind: store.NameNumber, Name: "a.example"})
	check("a claim of a Tenant created again under the name", fixture.claims(t, globex, "u3", name), name)
	held, err := fixture.Operator.HeldNames(t.Context(), globex, "u2")
	if err != nil {
		t.Fatal(err)
	}
	check("the names of its predecessor", held)
}

func TestAccountIsShared(t *testing.T) {
	fixture := newFixture(t)
	fixture.claims(t, acme, "u1", sharedAccount)
	owner := store.NameHolder{
		Tenant: acme,
		UID:    "u1",
	}
	sharer := store.NameHolder{
		Tenant: globex,
		UID:    "u2",
	}
	share := func(owner store.NameHolder, want bool) {
		t.Helper()
		if got, err := fixture.Operator.ShareAccount(t.Context(), "acme1", owner, sharer); err != nil || got != want {
			t.Fatalf("shared %v, %v; want %v", got, err, want)
		}
	}
	holders := func(want ...store.NameHolder) {
		t.Helper()
		got, err := fixture.Operator.NameHolders(t.Context(), sharedAccount)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("holders: %v (-want +got):\n%s", err, diff)
		}
	}
	share(store.NameHolder{Tenant: acme, UID: "u0"}, false)
	holders(owner)
	share(owner, true)
	holders(owner, store.NameHolder{Tenant: globex, UID: "u2", Shared: true})
	if held := fixture.claims(t, "initech/it", "u3", sharedAccount); len(held) != 0 {
		t.Errorf("a third tenant holds %v without a share", held)
	}
	fixture.releases(t, acme, "u1")
	holders(sharer) // the owner now
	if held := fixture.claims(t, acme, "u1", sharedAccount); len(held) != 0 {
		t.Errorf("the former owner holds %v", held)
	}
}

func TestSeedNames(t *testing.T) {
	fixture := newFixture(t)
	published := []store.NameClaim{
		{
			Tenant: acme,
			UID:    "u1",
			Names:  []store.Name{sharedAccount, host("a.example"), host("a.example")},
		},
		{
			Tenant: globex,
			UID:    "u2",
			Names:  []store.Name{sharedAccount, host("a.example"), host("b.example")},
		},
	}
	for range 2 { // the second time changes nothing
		if err := fixture.Operator.SeedNames(t.Context(), published); err != nil {
			t.Fatal(err)
		}
		got := query[string](
			t, fixture.AdminDSN, `SELECT tenant || ' ' || name || ' ' || shared FROM tenant_names ORDER BY 1`,
		)
		want := []string{
			acme + " a.example false", acme + " acme1 false",
			globex + " acme1 true", globex + " b.example false",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
		slices.Reverse(published)
	}
}

// TestNamesAtOnce claims the same names from several operators at once, and checks after each round that every name
// has one owner and that no tenant lost a name to another.
func TestNamesAtOnce(t *testing.T) {
	fixture := newFixture(t)
	const tenants, rounds = 6, 40
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test that can be repeated
	holder := map[store.Name]string{}
	for round := range rounds {
		wants := make([][]store.Name, tenants)
		for i := range wants {
			for range random.IntN(4) {
				wants[i] = append(wants[i], host(fmt.Sprintf("h%d.example", random.IntN(5))))
			}
		}
		held := make([][]store.Name, tenants)
		var group sync.WaitGroup
		for i := range wants {
			group.Go(func() {
				id := fmt.Sprintf("acme/t%d", i)
				held[i] = fixture.claims(t, id, "u", wants[i]...)
				fixture.releases(t, id, "u", wants[i]...)
			})
		}
		group.Wait()
		next := map[store.Name]string{}
		for i := range wants {
			id := fmt.Sprintf("acme/t%d", i)
			for _, name := range held[i] {
				if !slices.Contains(wants[i], name) {
					continue // released
				}
				if other, taken := next[name]; taken {
					t.Fatalf("round %d: %s and %s hold %s", round, other, id, name.Name)
				}
				next[name] = id
			}
			for _, name := range wants[i] {
				if holder[name] == id && next[name] != id {
					t.Fatalf(
						"round %d: %s lost %s, which it held and still wants, to %q", round, id, name.Name, next[name],
					)
				}
			}
		}
		holder = maps.Clone(next)
	}
}
