import { Role as WireRole } from '../gen/vpnd/v1/types_pb.js';
import type { MemberRole } from '../model/role.js';

const ROLES: Readonly<Record<MemberRole, WireRole>> = {
  supernode: WireRole.SUPERNODE,
  exit: WireRole.EXIT,
  client: WireRole.CLIENT,
};

export const wireRole = (role: MemberRole): WireRole => ROLES[role];

/** Undefined for base, for "unspecified" and for numbers this version does not know. */
export function memberRoleOf(role: WireRole): MemberRole | undefined {
  switch (role) {
    case WireRole.SUPERNODE:
      return 'supernode';
    case WireRole.EXIT:
      return 'exit';
    case WireRole.CLIENT:
      return 'client';
    default:
      return undefined;
  }
}
