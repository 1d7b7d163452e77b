package kubectl

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
)

func newUsersCommand(s *Session) *cobra.Command {
	return group("users", "Show, invite and change the accounts of a Tenant's people",
		newUsersListCommand(s),
		newUsersCreateCommand(s),
		newUserChangeCommand(s, adminapi.ChangeDisable, "Keep a person from signing in, and end all sessions"),
		newUserChangeCommand(s, adminapi.ChangeEnable, "Let a disabled person sign in again"),
		newUserChangeCommand(s, adminapi.ChangeRevoke, "End all sessions of a person, who may sign in again"),
	)
}

// userColumns are those of a table.
var userColumns = columns[adminapi.User]{
	heading: []string{"TENANT", "EMAIL", "ROLE", "STATE", "AGE"},
	wide:    []string{"CREATED", "ID"},
	cells: func(v adminapi.User) []string {
		return []string{
			cli.Clean(v.Tenant),
			cli.Clean(v.Email),
			cli.Clean(v.Role),
			cli.Clean(v.State),
			age(v.CreatedAt),
			stamp(&v.CreatedAt),
			cli.Clean(v.ID),
		}
	},
	name: func(v adminapi.User) string { return cli.Clean(v.Email) },
}

func newUsersListCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List accounts by Tenant, of each by their emails",
		Args:  cli.NoArgs,
		Long:  `Lists accounts by Tenant, of each by their emails. It needs the right to list users.`,
		Example: `  kubectl caly users list -t acme/support
  kubectl caly users list -A -o json`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > maxListed {
				return cli.UsageError(nil, fmt.Errorf("--limit must be between 1 and %d", maxListed))
			}
			namespace, tenant, err := where.resolve()
			if err != nil {
				return err
			}
			return listAndPrint(cmd, s, &where, listing[adminapi.User]{
				path:    adminapi.Path(namespace, adminapi.ResourceUsers),
				query:   query(tenant),
				most:    limit,
				columns: userColumns,
			})
		}),
	}
	where.addTo(cmd)
	cmd.Flags().IntVar(&limit, "limit", 1000, "maximum number of accounts")
	return cmd
}

// one returns the namespace and the name of the Tenant that --tenant names.
func (f *scope) one() (namespace, tenant string, err error) {
	namespace, tenant, err = f.resolve()
	if err == nil && (tenant == "" || namespace == "") {
		err = cli.UsageError(nil, errors.New("--tenant is needed: the name of a Tenant, or its namespace/name"))
	}
	return namespace, tenant, err
}

func newUsersCreateCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var email, role string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create an account, and print a token that sets its password",
		Args:  cli.NoArgs,
		Long: `Creates an account and a token, which is printed once. The person who gets the token sets the password within a week with
POST /api/auth/reset-password. The account can be used then, whatever the Tenant's allowedEmailDomains. It needs the right
to create users.`,
		Example: `  kubectl caly users create -t acme/support --email=jane@acme.example --role=admin`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if email == "" || role == "" {
				return cli.UsageError(nil, errors.New("--email and --role are needed"))
			}
			namespace, tenant, err := where.one()
			if err != nil {
				return err
			}
			c, done, err := s.Client()
			if err != nil {
				return err
			}
			defer done()
			var created adminapi.CreatedUser
			body := adminapi.NewUser{Tenant: tenant, Email: email, Role: role}
			if err := c.Post(
				cmd.Context(), adminapi.Path(namespace, adminapi.ResourceUsers), body, &created,
			); err != nil {
				return err
			}
			return printCreated(cmd, where.output, created)
		}),
	}
	where.addTo(cmd)
	cmd.Flags().StringVar(&email, "email", "", "email of the account; required")
	cmd.Flags().StringVar(&role, "role", "", "admin, agent or viewer; required")
	return cmd
}

// printCreated gives the token to standard output alone, for pipes.
func printCreated(cmd *cobra.Command, output string, created adminapi.CreatedUser) error {
	if output == outputJSON || output == outputYAML {
		return printObject(cmd, output, created)
	}
	cmd.PrintErrf(
		"%s is %s of %s. This token sets the password until %s, and is not shown again:\n",
		cli.Clean(created.Email),
		cli.Clean(created.Role),
		cli.Clean(created.Tenant),
		created.ExpiresAt.Format(time.RFC3339),
	)
	cmd.Println(cli.Clean(created.ResetToken))
	return nil
}

// newUserChangeCommand returns a command that changes one account.
func newUserChangeCommand(s *Session, change, short string) *cobra.Command {
	where := scope{session: s}
	cmd := &cobra.Command{
		Use:     change + " EMAIL",
		Short:   short,
		Args:    exactlyOne("one email, which \"users list\" shows"),
		Long:    short + ". A change takes effect within a second or two. It needs the right to update users.",
		Example: "  kubectl caly users " + change + " jane@acme.example -t acme/support",
		RunE: run(func(cmd *cobra.Command, args []string) error {
			namespace, tenant, err := where.one()
			if err != nil {
				return err
			}
			c, done, err := s.Client()
			if err != nil {
				return err
			}
			defer done()
			var changed adminapi.ChangedUser
			path := adminapi.Path(namespace, adminapi.ResourceUsers, adminapi.ChangePath)
			body := adminapi.UserChange{Tenant: tenant, Email: args[0], Change: change}
			if err := c.Post(cmd.Context(), path, body, &changed); err != nil {
				return err
			}
			if where.output == outputJSON || where.output == outputYAML {
				return printObject(cmd, where.output, changed)
			}
			said := map[string]string{
				adminapi.ChangeDisable: "disabled, and signed out everywhere",
				adminapi.ChangeEnable:  "enabled",
				adminapi.ChangeRevoke:  fmt.Sprintf("signed out everywhere: %d sessions were ended", changed.Sessions),
			}[change]
			cmd.Printf("%s of %s: %s\n", cli.Clean(changed.User.Email), cli.Clean(changed.User.Tenant), said)
			return nil
		}),
	}
	where.addTo(cmd)
	return cmd
}
