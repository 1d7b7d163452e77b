package intake

import "github.com/caly-dev/caly/api/v1alpha1"

// PerNamespace returns how many CallRecordings one namespace may have of a total. Its author can create many Tenants,
// and apply CallRecordings by hand; a quarter of the total is then left to others.
func PerNamespace(total int) int { return total - total/4 }

// counts of the CallRecordings that exist, made by the operator or by people.
type counts struct {
	perTenant, perNamespace map[string]int
	namespaces              int // with Tenants
}

func countsOf(list []v1alpha1.CallRecording, namespaces int) counts {
	c := counts{perTenant: map[string]int{}, perNamespace: map[string]int{}, namespaces: namespaces}
	for i := range list {
		c.perTenant[list[i].TenantID()]++
		c.perNamespace[list[i].Namespace]++
	}
	return c
}

// add counts CallRecordings that this round made and the cache does not show yet.
func (c counts) add(t *v1alpha1.Tenant, made int) {
	c.perTenant[t.ID()] += made
	c.perNamespace[t.Namespace] += made
}

// room returns how many CallRecordings intake may make in a namespace, of a total. A namespace counts for at most what
// it may have. It always has its equal part of the total: no number of CallRecordings elsewhere takes that away.
func (c counts) room(namespace string, total int) int {
	used := 0
	for _, n := range c.perNamespace {
		used += min(n, PerNamespace(total))
	}
	has := c.perNamespace[namespace]
	return min(PerNamespace(total)-has, max(total-used, total/max(c.namespaces, 1)-has))
}
