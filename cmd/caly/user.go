package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/mailaddress"
	"github.com/caly-dev/caly/internal/store"
)

func newUserCommand() *cobra.Command {
	o := &userOptions{}
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Show, create and change the accounts of a tenant's people",
		Args:  cli.NoArgs,
		RunE:  help,
		Long: "Create the first admin of a tenant here; admins invite the others. A change " +
			"takes effect at once: within a second or two no\n" +
			"earlier token is valid any more. In a cluster: " +
			"kubectl -n caly-system exec -i deploy/caly-operator -- /caly user list --tenant=acme/support",
	}
	cmd.PersistentFlags().StringVar(
		&o.file, "database-url-file", "", "file with the operator's database URL (or CALY_DATABASE_URL)",
	)
	cmd.PersistentFlags().StringVar(&o.tenant, "tenant", "", "namespace/name of the Tenant; required")
	cmd.AddCommand(
		newUserCreateCommand(o),
		newUserListCommand(o),
		newUserDisableCommand(o),
		newUserEnableCommand(o),
		newUserRevokeCommand(o),
	)
	return cmd
}

// userOptions are the flags of every command.
type userOptions struct{ file, tenant string }

// check returns errors of usage.
func (o *userOptions) check() error {
	if o.tenant == "" {
		return cli.UsageError(nil, errors.New("--tenant is needed: the namespace/name of a Tenant"))
	}
	if _, _, err := splitTenant(o.tenant); err != nil {
		return cli.UsageError(nil, err)
	}
	return nil
}

// open checks the flags and connects as the operator does.
func (o *userOptions) open(cmd *cobra.Command) (*store.Operator, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return openOperator(cmd.Context(), o.file, "caly-user")
}

// parseEmail returns an error of usage, which quotes nothing: people type passwords into the wrong place.
func parseEmail(s string) (string, error) {
	email, err := mailaddress.Normalize(s)
	if err != nil {
		return "", cli.UsageError(nil, fmt.Errorf("the email %w", err))
	}
	return email, nil
}

// userView is a user in JSON.
type userView struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	Role      string    `json:"role"`
	State     string    `json:"state"`
	CreatedAt time.Time `json:"createdAt"`
}

// userViewOf returns the printed fields of an account. Times are in UTC.
func userViewOf(u store.User) userView {
	return userView{ID: u.ID, Email: u.Email, Role: u.Role, State: u.State(), CreatedAt: u.CreatedAt.UTC()}
}

func newUserListCommand(o *userOptions) *cobra.Command {
	var output, after string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List a tenant's accounts by their emails",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if limit < 1 || limit > maxUsers {
				return cli.UsageError(nil, fmt.Errorf("--limit must be between 1 and %d", maxUsers))
			}
			db, err := o.open(cmd)
			if err != nil {
				return err
			}
			defer db.Close()
			list, err := db.ListUsers(cmd.Context(), o.tenant, store.UserCursor{Email: after}, limit+1)
			if err != nil {
				return err
			}
			return printUsers(cmd, list, limit, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&after, "after", "", "only emails after this one: the next page")
	cmd.Flags().IntVar(&limit, "limit", 1000, "maximum number of accounts")
	return cmd
}

const maxUsers = 10_000

// printUsers prints a page. list may have one more than limit, which shows that there is a next page.
func printUsers(cmd *cobra.Command, list []store.User, limit int, output string) error {
	views := []userView{}
	next := ""
	for _, u := range list[:min(len(list), limit)] {
		views = append(views, userViewOf(u))
	}
	if len(list) > limit {
		next = views[limit-1].Email
	}
	if output == "json" {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Users []userView `json:"users"`
			After string     `json:"after,omitempty"` // of the next page
		}{views, next})
	}
	err := cli.PrintTable(cmd.OutOrStdout(), "EMAIL\tROLE\tSTATE\tCREATED\tID", views, func(v userView) string {
		return fmt.Sprintf(
			"%s\t%s\t%s\t%s\t%s", cli.Clean(v.Email), v.Role, v.State, v.CreatedAt.Format(time.RFC3339), v.ID,
		)
	})
	if next != "" {
		cmd.PrintErrf("there are more: add --after=%s\n", cli.Clean(next))
	}
	return err
}
