package kubectl

import (
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/internal/adminapi/client"
)

// listing is a list of the admin API, and how it is printed.
type listing[T any] struct {
	path    string
	query   url.Values
	most    int
	columns columns[T]
}

// listAndPrint reads all pages of a list and prints them.
func listAndPrint[T any](cmd *cobra.Command, s *Session, where *scope, l listing[T]) error {
	c, done, err := s.Client()
	if err != nil {
		return err
	}
	defer done()
	list, more, err := client.All[T](cmd.Context(), c, l.path, l.query, l.most)
	if err != nil {
		return err
	}
	return printList(cmd, where.output, list, more, l.columns)
}

// setNonEmpty sets a parameter that is not empty.
func setNonEmpty(values url.Values, name, value string) {
	if value != "" {
		values.Set(name, value)
	}
}

// byTenant are ids of objects, by the ids of their tenants.
type byTenant struct {
	tenants []string
	ids     map[string][]string
}

// add adds the id of an object of a tenant.
func (b *byTenant) add(tenant, id string) {
	if b.ids == nil {
		b.ids = map[string][]string{}
	}
	if len(b.ids[tenant]) == 0 {
		b.tenants = append(b.tenants, tenant)
	}
	b.ids[tenant] = append(b.ids[tenant], id)
}

// each calls a function with the ids of each tenant, in the order in which the tenants were added, until an error.
func (b *byTenant) each(do func(namespace, name string, ids []string) error) error {
	for _, tenant := range b.tenants {
		namespace, name, _ := strings.Cut(tenant, "/")
		if err := do(namespace, name, b.ids[tenant]); err != nil {
			return err
		}
	}
	return nil
}
