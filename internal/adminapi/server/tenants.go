package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/adminapi"
)

// maxTenantsOfPage bounds the tenants that one request looks at; the cursor leads to the others.
const maxTenantsOfPage = 200

// maxCursor bounds the parameter "cursor".
const maxCursor = 2048

// Tenants returns the ids of the Tenants that the request is about, in their order: those of the namespace that the
// caller has the right in, or the one that the parameter "tenant" names. Rows of a deleted Tenant of the same name
// belong to another customer perhaps: a Tenant whose rows are not its own is left out.
func (r *Request) Tenants() ([]string, error) {
	return r.tenants(r.URL.Query().Get("tenant"))
}

// Tenant returns the id of the Tenant with this name in the request's namespace.
func (r *Request) Tenant(name string) (string, error) {
	if name == "" {
		return "", apierrors.NewBadRequest("tenant: the name of a Tenant is needed")
	}
	ids, err := r.tenants(name)
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

// tenants returns all, or the one of a name.
func (r *Request) tenants(name string) ([]string, error) {
	if watched := r.server.Namespaces; r.Namespace != "" && len(watched) > 0 && !slices.Contains(watched, r.Namespace) {
		return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), r.Namespace)
	}
	var list v1alpha1.TenantList
	if err := r.server.Client.List(r.Context(), &list, client.InNamespace(r.Namespace)); err != nil {
		return nil, unreviewed("list of Tenants", err)
	}
	uids := map[string]string{}
	for i := range list.Items {
		tenant := &list.Items[i]
		if (r.Namespace == "" || tenant.Namespace == r.Namespace) && (name == "" || tenant.Name == name) {
			uids[tenant.ID()] = string(tenant.UID)
		}
	}
	if name != "" && len(uids) == 0 {
		return nil, apierrors.NewNotFound(
			schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: adminapi.ResourceTenants}, name)
	}
	ids, err := r.server.Store.OwnedTenants(r.Context(), uids)
	if err != nil {
		return nil, err
	}
	if name != "" && len(ids) == 0 {
		return nil, apierrors.NewConflict(
			schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: adminapi.ResourceTenants}, name,
			fmt.Errorf("the operator has not accepted the Tenant yet, or its rows belong to a deleted Tenant of the "+
				"same name; see the conditions of the Tenant"))
	}
	return ids, nil
}

// cursor is the place of an item: the last one of a page.
type cursor struct {
	Tenant string `json:"t"`
	// After is the position within the tenant's list, in the form of the resource; empty begins the tenant.
	After string `json:"a,omitempty"`
}

func (c cursor) encode() string {
	data, _ := json.Marshal(c) // two strings
	return base64.RawURLEncoding.EncodeToString(data)
}

func decodeCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	wrong := apierrors.NewBadRequest("cursor: it is not the \"next\" of a page of this list")
	if len(text) > maxCursor {
		return c, wrong
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(data, &c) != nil || strings.Count(c.Tenant, "/") != 1 {
		return cursor{}, wrong
	}
	return c, nil
}

// page is a part of one tenant's list.
type page[T any] struct {
	items []T
	// after is the position of the last item, and more reports whether others follow it.
	after string
	more  bool
}

// pageOf reads at most limit items of a tenant after a position, which is empty at the start.
type pageOf[T any] func(ctx context.Context, tenant, after string, limit int) (page[T], error)

// walk fills a page from one tenant after another. A cursor is a place among the request's tenants, never access: a
// tenant that it names and that the caller may not see is only skipped.
func walk[T any](r *Request, read pageOf[T]) (list adminapi.List[T], err error) {
	query := r.URL.Query()
	limit, err := r.Limit(query)
	if err != nil {
		return list, err
	}
	from, err := decodeCursor(query.Get("cursor"))
	if err != nil {
		return list, err
	}
	tenants, err := r.Tenants()
	if err != nil {
		return list, err
	}
	list.Items = []T{}
	start, _ := slices.BinarySearch(tenants, from.Tenant)
	for looked, tenant := range tenants[start:] {
		if looked == maxTenantsOfPage || len(list.Items) == limit {
			list.Next = cursor{Tenant: tenant}.encode()
			return list, nil
		}
		after := ""
		if tenant == from.Tenant {
			after = from.After
		}
		part, err := read(r.Context(), tenant, after, limit-len(list.Items))
		if err != nil {
			return list, err
		}
		list.Items = append(list.Items, part.items...)
		if part.more {
			list.Next = cursor{Tenant: tenant, After: part.after}.encode()
			return list, nil
		}
	}
	return list, nil
}
