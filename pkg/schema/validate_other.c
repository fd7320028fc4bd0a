#include "schema/validate.h"

const struct check_kind check_other_kinds[] = {{NULL, NULL}};
