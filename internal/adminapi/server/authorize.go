package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// decisionLifetime is how long a decision of the API server is used again.
const decisionLifetime = 10 * time.Second

// maxImpersonated bounds the groups and extra values of one impersonation: each is a review.
const maxImpersonated = 32

// access is what a request asks a right for, as in ResourceAttributes.
type access struct {
	Namespace, Verb, Group, Resource, Subresource, Name string
}

// authorizer asks the API server what a user may do.
type authorizer struct {
	client    client.Client
	decisions *lru.Cache
	now       func() time.Time
}

func newAuthorizer(c client.Client) *authorizer {
	return &authorizer{client: c, decisions: lru.New(4 * maxUsers), now: time.Now}
}

type decision struct {
	allowed bool
	reason  string
	until   time.Time
}

// authorize returns nil if the user may, and an error of the API server's form otherwise.
func (a *authorizer) authorize(ctx context.Context, u User, want access) error {
	key, err := json.Marshal([]any{u, want})
	if err != nil {
		return err
	}
	found, ok := a.decisions.Get(string(key))
	if !ok || !a.now().Before(found.(decision).until) {
		if found, err = a.review(ctx, u, want); err != nil {
			return err
		}
		if len(key) < 4096 { // longer ones are rare, and would make the cache's memory theirs
			a.decisions.Add(string(key), found)
		}
	}
	if made := found.(decision); !made.allowed {
		return forbidden(u, want, made.reason)
	}
	return nil
}

// review asks the API server.
func (a *authorizer) review(ctx context.Context, u User, want access) (decision, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:   u.Name,
		UID:    u.UID,
		Groups: u.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace:   want.Namespace,
			Verb:        want.Verb,
			Group:       want.Group,
			Version:     "*",
			Resource:    want.Resource,
			Subresource: want.Subresource,
			Name:        want.Name,
		},
	}}
	for name, values := range u.Extra {
		if review.Spec.Extra == nil {
			review.Spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		review.Spec.Extra[name] = values
	}
	if err := a.client.Create(ctx, review); err != nil {
		return decision{}, unreviewed("SubjectAccessReview", err)
	}
	return decision{
		allowed: review.Status.Allowed && !review.Status.Denied,
		reason:  review.Status.Reason,
		until:   a.now().Add(decisionLifetime),
	}, nil
}

// forbidden returns the error that the API server would return.
func forbidden(u User, want access, reason string) error {
	resource := want.Resource
	if want.Subresource != "" {
		resource += "/" + want.Subresource
	}
	where := "at the cluster scope"
	if want.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", want.Namespace)
	}
	message := fmt.Sprintf("user %q cannot %s resource %q in API group %q %s",
		u.Name, want.Verb, resource, want.Group, where)
	if reason != "" {
		message += ": " + reason
	}
	return apierrors.NewForbidden(
		schema.GroupResource{Group: want.Group, Resource: resource}, want.Name, fmt.Errorf("%s", message),
	)
}

// impersonate returns the user that the request's Impersonate headers name, if the user may impersonate it: one review
// for the user, for each group, for the UID and for each extra value, as the API server asks. Without the headers it
// returns the user itself.
func (a *authorizer) impersonate(ctx context.Context, by User, h http.Header) (User, error) {
	wanted, err := impersonated(h)
	if err != nil || wanted == nil {
		return by, err
	}
	for _, want := range wanted.accesses() {
		if err := a.authorize(ctx, by, want); err != nil {
			return User{}, err
		}
	}
	user := wanted.User
	user.By = by.Name
	if len(user.Groups) == 0 {
		if namespace, _, ok := serviceAccount(user.Name); ok {
			user.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
		}
	}
	if user.Name == userAnonymous {
		return User{}, unauthorized("the admin API serves no anonymous user")
	}
	return authenticated(user), nil
}

// impersonation is the user that the headers of a request name.
type impersonation struct{ User }

// impersonated reads the headers; nil without them.
func impersonated(h http.Header) (*impersonation, error) {
	wanted := &impersonation{User{
		Name:   h.Get(authenticationv1.ImpersonateUserHeader),
		UID:    h.Get(authenticationv1.ImpersonateUIDHeader),
		Groups: slices.Clone(h.Values(authenticationv1.ImpersonateGroupHeader)),
	}}
	count := len(wanted.Groups)
	for name, values := range h {
		key, ok := strings.CutPrefix(name, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		key = strings.ToLower(key)
		if decoded, err := url.PathUnescape(key); err == nil {
			key = decoded
		}
		if wanted.Extra == nil {
			wanted.Extra = map[string][]string{}
		}
		wanted.Extra[key] = append(wanted.Extra[key], values...)
		count += len(values)
	}
	if wanted.Name == "" {
		if wanted.UID != "" || count > 0 {
			return nil, apierrors.NewBadRequest("an impersonation of groups, a UID or extra values needs a user (--as)")
		}
		return nil, nil
	}
	if count > maxImpersonated {
		return nil, apierrors.NewBadRequest(
			fmt.Sprintf("an impersonation may have at most %d groups and extra values", maxImpersonated))
	}
	return wanted, nil
}

// accesses returns the rights that the impersonation needs.
func (i *impersonation) accesses() []access {
	group := authenticationv1.GroupName
	list := []access{{Verb: "impersonate", Resource: "users", Name: i.Name}}
	if namespace, name, ok := serviceAccount(i.Name); ok {
		list[0] = access{Verb: "impersonate", Resource: "serviceaccounts", Namespace: namespace, Name: name}
	}
	for _, name := range i.Groups {
		list = append(list, access{Verb: "impersonate", Resource: "groups", Name: name})
	}
	for key, values := range i.Extra {
		for _, value := range values {
			list = append(list, access{
				Verb:        "impersonate",
				Group:       group,
				Resource:    "userextras",
				Subresource: key,
				Name:        value,
			})
		}
	}
	if i.UID != "" {
		list = append(list, access{Verb: "impersonate", Group: group, Resource: "uids", Name: i.UID})
	}
	return list
}

// serviceAccount splits the user name of a service account.
func serviceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}
