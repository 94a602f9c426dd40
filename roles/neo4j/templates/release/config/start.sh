# SPDX-License-Identifier: GPL-3.0-or-later
# Becomes the server. Before its first start it gets the administrator's password, later ones are settled over Bolt.
set -euo pipefail
umask 027

if [ ! -e /data/databases/system ]; then
  # From a file of arguments: the password stands in no argument list.
  neo4j-admin dbms set-initial-password @/live/private/initial_password
fi
# The boot loader reads neo4j.conf and says the server's command line; as the child of it the server would not see Docker's signals.
command=$(neo4j console --dry-run)
eval "exec $command"
