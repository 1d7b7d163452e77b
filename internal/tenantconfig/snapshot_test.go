package tenantconfig

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ids(tenants ...*Tenant) []string {
	var list []string
	for _, t := range tenants {
		list = append(list, t.ID)
	}
	return list
}

func TestSnapshotFinds(t *testing.T) {
	snapshot := NewSnapshot(
		&Tenant{
			ID:           "acme/support",
			AccountSID:   "acme1",
			PhoneNumbers: []string{"+918047491899", "+918047491899", "+918047491900"},
		},
		&Tenant{
			ID:         "acme/sales",
			AccountSID: "acme1",
		},
		&Tenant{
			ID:           "globex/sales",
			PhoneNumbers: []string{"+6581234567"},
			Auth:         &Auth{Hosts: []string{"voice.globex.example"}},
		},
	)
	byHost := func(host string) []string {
		if found, ok := snapshot.ByHost(host); ok {
			return ids(found)
		}
		return nil
	}
	for name, tc := range map[string]struct{ got, want []string }{
		"account of two":        {ids(snapshot.ByAccount("acme1")...), []string{"acme/sales", "acme/support"}},
		"account of nobody":     {ids(snapshot.ByAccount("initech1")...), nil},
		"no account":            {ids(snapshot.ByAccount("")...), nil},
		"number of one":         {ids(snapshot.ByNumber("+918047491899")...), []string{"acme/support"}},
		"numbers of one, twice": {ids(snapshot.ByNumber("+918047491899", "+918047491899")...), []string{"acme/support"}},
		"numbers of two": {
			got:  ids(snapshot.ByNumber("+918047491899", "+6581234567")...),
			want: []string{"acme/support", "globex/sales"},
		},
		"number of nobody":        {ids(snapshot.ByNumber("+15550100")...), nil},
		"no number":               {ids(snapshot.ByNumber()...), nil},
		"number without its plus": {ids(snapshot.ByNumber("918047491899")...), nil},
		"host of one":             {byHost("voice.globex.example"), []string{"globex/sales"}},
		"host of nobody":          {byHost("voice.acme.example"), nil},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSnapshotNewcomerTakesNothing adds a Tenant that has every name of the others, in every order of arrival. The
// operator publishes no such config; a pod does not rely on it.
func TestSnapshotNewcomerTakesNothing(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	newConfig := func(id string, created time.Time, account string, shares bool) *Tenant {
		return &Tenant{
			ID:            id,
			UID:           "uid of " + id,
			Created:       created,
			AccountSID:    account,
			SharesAccount: shares,
			PhoneNumbers:  []string{"+91804749189" + account[len(account)-1:]},
			Auth:          &Auth{Hosts: []string{account + ".example"}},
		}
	}
	acme := newConfig("acme/support", day(1), "acme1", false)
	globex := newConfig("globex/sales", day(2), "globex2", false)
	sharer := newConfig("globex/care", day(3), "globex2", true)
	sharer.PhoneNumbers = []string{"+918047491893"}
	sharer.Auth = nil
	evil := newConfig("evil/twin", day(4), "acme1", false)
	evil.PhoneNumbers = []string{"+918047491891", "+918047491892", "+918047491893"}
	evil.Auth.Hosts = append(evil.Auth.Hosts, "globex2.example", "localhost", "caly-dataplane.caly-system.svc")
	all := []*Tenant{acme, globex, sharer, evil}
	for range len(all) {
		all = append(all[1:], all[0])
		snapshot := NewSnapshot(slices.Clone(all)...)
		for name, tc := range map[string]struct{ got, want []string }{
			"account":        {ids(snapshot.ByAccount("acme1")...), []string{"acme/support"}},
			"shared account": {ids(snapshot.ByAccount("globex2")...), []string{"globex/sales", "globex/care"}},
			"number":         {ids(snapshot.ByNumber("+918047491891")...), []string{"acme/support"}},
			"second number":  {ids(snapshot.ByNumber("+918047491892")...), []string{"globex/sales"}},
			"sharer's":       {ids(snapshot.ByNumber("+918047491893")...), []string{"globex/care"}},
		} {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		for host, want := range map[string]*Tenant{
			"acme1.example":                  acme,
			"globex2.example":                globex,
			"localhost":                      nil,
			"caly-dataplane.caly-system.svc": nil,
		} {
			if got, _ := snapshot.ByHost(host); got != want {
				t.Errorf("ByHost(%q) is %v, want %v", host, got, want)
			}
		}
	}
}
