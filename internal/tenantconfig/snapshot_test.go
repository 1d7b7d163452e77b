package tenantconfig

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSnapshotFinds(t *testing.T) {
	s := NewSnapshot(
		&Tenant{ID: "acme/support", AccountSID: "acme1", PhoneNumbers: []string{"+918047491899", "+918047491899", "+918047491900"}},
		&Tenant{ID: "acme/sales", AccountSID: "acme1", PhoneNumbers: []string{"+918047491900"}},
		&Tenant{ID: "globex/sales", PhoneNumbers: []string{"+6581234567"}},
	)
	ids := func(tenants []*Tenant) (list []string) {
		for _, tn := range tenants {
			list = append(list, tn.ID)
		}
		slices.Sort(list)
		return list
	}
	for name, tc := range map[string]struct{ got, want []string }{
		"account of two":          {ids(s.ByAccount("acme1")), []string{"acme/sales", "acme/support"}},
		"account of nobody":       {ids(s.ByAccount("initech1")), nil},
		"no account":              {ids(s.ByAccount("")), nil},
		"number of one":           {ids(s.ByNumber("+918047491899")), []string{"acme/support"}},
		"number of two":           {ids(s.ByNumber("+918047491900")), []string{"acme/sales", "acme/support"}},
		"numbers of one, twice":   {ids(s.ByNumber("+918047491899", "+918047491899")), []string{"acme/support"}},
		"numbers of two":          {ids(s.ByNumber("+918047491899", "+6581234567")), []string{"acme/support", "globex/sales"}},
		"number of nobody":        {ids(s.ByNumber("+15550100")), nil},
		"no number":               {ids(s.ByNumber()), nil},
		"number without its plus": {ids(s.ByNumber("918047491899")), nil},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
