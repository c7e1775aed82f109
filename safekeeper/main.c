/* loch-safekeeper: receives WAL, makes it durable on a quorum, hands it on. */
#include "daemon.h"

int main(int argc, char **argv)
{
    return loch_daemon_main(argc, argv, &sk_program, &sk_hooks);
}
