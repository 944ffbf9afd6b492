/* The peer of `cargo xtask bench agentx`: an AgentX subagent for a table that never changes, as net-snmp's own library
 * has it. The rows are compiled in, in the order of their OIDs; the row behind the last answer is found without a
 * search. One handler for the whole subtree, which is the shortest way through the library.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <net-snmp/net-snmp-config.h>
#include <net-snmp/net-snmp-includes.h>
#include <net-snmp/agent/net-snmp-agent-includes.h>

struct row {
	const char *oid, *value;
	unsigned char type;
};

#define INTEGER ASN_INTEGER
#define COUNTER ASN_COUNTER
#define COUNTER64 ASN_COUNTER64
#define STRING ASN_OCTET_STR

static const struct row rows[] = {
#include "rows.h"
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* A row ready to be sent: arcs, and the value as the library wants it. */
struct cell {
	oid name[32];
	size_t length;
	union {
		long number;
		struct counter64 counter64;
	} value;
};

static struct cell cells[ROWS];
static size_t last;
static volatile sig_atomic_t running = 1;

static void prepare(void)
{
	for (size_t i = 0; i < ROWS; i++) {
		struct cell *cell = &cells[i];
		const char *text = rows[i].oid;
		unsigned long long number;
		char *end;

		while (*text == '.') {
			cell->name[cell->length++] = strtoul(text + 1, &end, 10);
			text = end;
		}
		if (rows[i].type == ASN_OCTET_STR)
			continue;
		number = strtoull(rows[i].value, NULL, 10);
		if (rows[i].type == ASN_COUNTER64) {
			cell->value.counter64.high = number >> 32;
			cell->value.counter64.low = number & 0xffffffff;
		} else {
			cell->value.number = number;
		}
	}
}

static int compare(const netsnmp_variable_list *asked, size_t row)
{
	return snmp_oid_compare(cells[row].name, cells[row].length, asked->name, asked->name_length);
}

/* The first row at or, for a getnext, above the OID that was asked for. */
static size_t search(const netsnmp_variable_list *asked, int above)
{
	size_t low = 0, high = ROWS;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare(asked, middle) < above)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void answer(netsnmp_variable_list *variable, size_t row)
{
	const struct cell *cell = &cells[row];

	snmp_set_var_objid(variable, cell->name, cell->length);
	switch (rows[row].type) {
	case ASN_OCTET_STR:
		snmp_set_var_typed_value(variable, ASN_OCTET_STR, rows[row].value, strlen(rows[row].value));
		break;
	case ASN_COUNTER64:
		snmp_set_var_typed_value(variable, ASN_COUNTER64, &cell->value.counter64, sizeof(cell->value.counter64));
		break;
	default:
		snmp_set_var_typed_value(variable, rows[row].type, &cell->value.number, sizeof(cell->value.number));
	}
}

static int handle(netsnmp_mib_handler *handler, netsnmp_handler_registration *registration,
		  netsnmp_agent_request_info *info, netsnmp_request_info *requests)
{
	(void)handler;
	(void)registration;
	for (netsnmp_request_info *request = requests; request; request = request->next) {
		netsnmp_variable_list *variable = request->requestvb;
		size_t row;

		if (request->processed)
			continue;
		if (info->mode == MODE_GET) {
			row = search(variable, 0);
			if (row < ROWS && compare(variable, row) == 0)
				answer(variable, row);
			else
				netsnmp_set_request_error(info, request, SNMP_NOSUCHINSTANCE);
		} else if (info->mode == MODE_GETNEXT) {
			row = compare(variable, last) == 0 ? last + 1 : search(variable, 1);
			if (row < ROWS) {
				answer(variable, row);
				last = row;
			}
		}
	}
	return SNMP_ERR_NOERROR;
}

static void stop(int signal)
{
	(void)signal;
	running = 0;
}

int main(int argc, char **argv)
{
	static const oid root[] = {1, 3, 6, 1, 4, 1, 23263, 4, 3, 1, 3};

	if (argc != 2)
		return 2;
	prepare();
	signal(SIGTERM, stop);
	netsnmp_ds_set_boolean(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_ROLE, 1);
	netsnmp_ds_set_string(NETSNMP_DS_APPLICATION_ID, NETSNMP_DS_AGENT_X_SOCKET, argv[1]);
	netsnmp_ds_set_boolean(NETSNMP_DS_LIBRARY_ID, NETSNMP_DS_LIB_DONT_READ_CONFIGS, 1);
	snmp_enable_stderrlog();
	if (init_agent("agentx_table"))
		return 1;
	if (netsnmp_register_handler(netsnmp_create_handler_registration("table", handle, root, OID_LENGTH(root),
									   HANDLER_CAN_RONLY)))
		return 1;
	init_snmp("agentx_table");
	while (running)
		agent_check_and_process(1);
	snmp_shutdown("agentx_table");
	return 0;
}
